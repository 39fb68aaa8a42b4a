//! `cargo xtask size`: what the module is made of, and whose bytes they are.

use std::fs;

use anyhow::{Result, bail};

use crate::module::{Build, build};
use crate::toolchain;
use crate::wasm_sections::{Anatomy, Share, dissect};
use crate::workspace::Workspace;

/// Builds the module twice, as released and with the functions' names, and prints three tables: sections, the code
/// by crate, imports.
pub fn run(workspace: &Workspace) -> Result<()> {
    let toolchain = toolchain::ensure()?;
    let named = build(workspace, &toolchain, Build { with_names: true, ..Build::default() })?;
    let released = build(workspace, &toolchain, Build::default())?;
    let (released_parts, named_parts) =
        (dissect(&fs::read(&released.path)?)?, dissect(&fs::read(&named.path)?)?);
    if released_parts.code != named_parts.code {
        bail!(
            "the code is {} bytes in {} and {} bytes in {}: the names would not be those of the released code",
            released_parts.code,
            released.path.display(),
            named_parts.code,
            named.path.display()
        );
    }
    println!("{}: {} bytes, {}\n", released.path.display(), released.bytes, toolchain.describe());
    print_report(&released_parts, &named_parts);
    Ok(())
}

fn print_report(released: &Anatomy, named: &Anatomy) {
    print_table("section", &released.sections);
    print_table("code of crate", &named.code_by_crate);
    println!("imports ({})", released.imports.len());
    for import in &released.imports {
        println!("  {import}");
    }
}

fn print_table(heading: &str, rows: &[Share]) {
    let total: u64 = rows.iter().map(|row| row.bytes).sum();
    let line = |name: &str, bytes: u64| {
        println!("{name:<44}{bytes:>9}{:>8.1}", bytes as f64 * 100.0 / total.max(1) as f64);
    };
    println!("{heading:<44}{:>9}{:>8}", "bytes", "%");
    for row in rows {
        line(&row.name, row.bytes);
    }
    line("total", total);
    println!();
}
