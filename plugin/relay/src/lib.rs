//! The sans-IO core of Testrelay.
