//! Measures the fuel of the module's main paths: `cargo xtask bench`.

use anyhow::{Result, bail};
use std::process::ExitCode;
use world::fuel::{MAX_CHANGE, Table, measure};

fn main() -> Result<ExitCode> {
    let accepts = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--accept" => true,
        other => bail!("there is only `--accept`, and not {other:?}"),
    };
    let measured = measure()?;
    let committed = Table::committed(&measured.compiler)?;
    println!("Rust {}, fuel of the largest callback: {}\n", measured.compiler, measured.most);
    print!("{}", measured.table.beside(&committed.clone().unwrap_or_default()));
    println!("\nthe leader's tick, for each pending check:");
    for (pending, fuel) in measured.for_each_pending() {
        println!("{pending:>8} {fuel:>8}");
    }
    if accepts {
        println!("\nwritten: {}", measured.table.commit(&measured.compiler)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(committed) = committed else {
        println!("\nThere is no table for this compiler: `cargo xtask bench --accept` makes one.");
        return Ok(ExitCode::SUCCESS);
    };
    let changes = measured.table.changes(&committed);
    if changes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "\nMore than {:.0} % away from the committed table:\n{}",
        MAX_CHANGE * 100.0,
        changes.join("\n")
    );
    Ok(ExitCode::FAILURE)
}
