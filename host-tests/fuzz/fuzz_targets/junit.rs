#![no_main]
#![allow(missing_docs, reason = "the macro's own items have none")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::junit::run(data));
