//! `README.md`: one page, whose configuration is the shipped one.

use crate::page::{fenced, section, text};
use anyhow::{Context, Result};
use host_tests::config;
use serde_json::Value;

#[test]
fn it_fits_on_one_page() -> Result<()> {
    let lines = text("README.md")?.lines().count();
    assert!(lines <= 150, "{lines} lines");
    Ok(())
}

#[test]
fn its_configuration_is_that_of_the_shipped_envoy() -> Result<()> {
    let page = text("README.md")?;
    let blocks = fenced(section(&page, "## Configuration")?, "json");
    let shown: Value = serde_json::from_str(blocks.first().context("no configuration")?)?;
    assert_eq!(shown, config::plugin(config::listener(&mut config::shipped()?)?)?);
    Ok(())
}
