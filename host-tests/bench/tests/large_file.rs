//! A file that no 32-bit number can count goes through Envoy and the module, whole and without being kept.

use anyhow::{Context, Result, ensure};
use bench::machine;
use bench::upstream::{Content, Upstream, own_path, path_by_tag, word};
use host_tests::client::{Connection, Request};
use host_tests::{BEARER, Envoy, Setup};
use std::io::Read;

/// A little more than Testkube can count: its list has the size as an int32.
const LENGTH: u64 = (1 << 31) + 12_345;

/// What Envoy may take while the file goes through: its own buffers, 1 MiB on each side.
const MAX_MEMORY: u64 = 32 << 20;

#[test]
fn a_file_over_2_gib_comes_whole_on_both_ways_and_is_kept_nowhere() -> Result<()> {
    let upstream = Upstream::start(None, &[LENGTH], Content::Numbered)?;
    let envoy = Envoy::start(&Setup::new()?.testkube(upstream.address()).concurrency(1))?;
    for target in [path_by_tag(LENGTH, 0), own_path(upstream.id(), LENGTH, 0)] {
        // The first request makes V8 and Envoy take what they always take.
        fetch(&envoy, &target, 1 << 20).with_context(|| target.clone())?;
        machine::reset_peak(envoy.pid())?;
        let before = machine::peak(envoy.pid())?;
        let read = fetch(&envoy, &target, u64::MAX).with_context(|| target.clone())?;
        assert_eq!(read, LENGTH, "{target}");
        let grown = machine::peak(envoy.pid())?.saturating_sub(before);
        assert!(grown < MAX_MEMORY, "{target}: Envoy has grown by {} MiB", grown >> 20);
    }
    envoy.stop()
}

/// Reads a file, but no more than about `most` bytes of it, and compares each with what belongs there. How many there were.
fn fetch(envoy: &Envoy, target: &str, most: u64) -> Result<u64> {
    let mut connection = Connection::open(envoy.address())?;
    let (head, mut body) = connection.start(&Request::get(target).bearer(BEARER))?;
    ensure!(head.status == 200, "the answer is {}", head.status);
    let mut buffer = vec![0; 256 * 1024];
    let (mut at, mut held) = (0_u64, 0);
    while at < most {
        let read = body.read(&mut buffer[held..])?;
        held += read;
        // Whole words, and what is left of the last one at the end.
        let whole = if read == 0 { held } else { held - held % 8 };
        for (n, bytes) in buffer[..whole].chunks(8).enumerate() {
            let offset = at + n as u64 * 8;
            ensure!(bytes == &word(offset)[..bytes.len()], "other bytes than sent, from {offset} on");
        }
        at += whole as u64;
        buffer.copy_within(whole..held, 0);
        held -= whole;
        if read == 0 {
            break;
        }
    }
    Ok(at)
}
