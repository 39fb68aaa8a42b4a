//! The blocks of PowerShell in the pages. Where there is a PowerShell its parser reads them; elsewhere a part of its grammar is
//! held: closed quotes and brackets, and commands that a Windows has.

use crate::shell::blocks_of;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Commands of Windows PowerShell 5.1 that blocks use.
const COMMANDS: [&str; 2] = ["Invoke-WebRequest", "Select-Object"];

/// Prints what the parser finds wrong in the variable `BLOCK`.
const PARSE: &str = "$found = $null; [void][System.Management.Automation.Language.Parser]::ParseInput($env:BLOCK, [ref]$null, \
     [ref]$found); $found | ForEach-Object { $_.Message }";

/// What is wrong with a block, by its quotes, its brackets and the first word of each command.
fn wrong(block: &str, folder: &Path) -> Option<String> {
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mut open, mut quote, mut parts) = (Vec::new(), None, vec![String::new()]);
        for c in line.chars() {
            match (quote, c) {
                (Some(end), _) if c == end => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '(' | '[' | '{') => open.push(c),
                (None, ')' | ']' | '}') => match (open.pop(), c) {
                    (Some('('), ')') | (Some('['), ']') | (Some('{'), '}') => {}
                    _ => return Some(format!("{c} closes nothing: {line}")),
                },
                (None, '|') if open.is_empty() => {
                    parts.push(String::new());
                    continue;
                }
                (None, _) => {}
            }
            parts.last_mut()?.push(c);
        }
        if quote.is_some() || !open.is_empty() {
            return Some(format!("something stays open: {line}"));
        }
        for part in parts {
            let first = part.split_whitespace().next().unwrap_or_default();
            let is_assignment = first.starts_with('$') && part.contains(" = ");
            let is_script = first
                .strip_prefix(".\\")
                .is_some_and(|script| script.ends_with(".ps1") && folder.join(script).is_file());
            if !is_assignment && !is_script && !COMMANDS.contains(&first) {
                return Some(format!("{first:?} is no command: {line}"));
            }
        }
    }
    None
}

#[test]
fn powershell_reads_every_block() -> Result<()> {
    let blocks = blocks_of("powershell")?;
    ensure!(blocks.len() == 2, "{} blocks", blocks.len());
    for (page, block) in blocks {
        let folder = Path::new(&page).parent().context("no folder")?;
        if let Some(why) = wrong(&block, folder) {
            anyhow::bail!("{page}: {why}");
        }
        let shell =
            Command::new("pwsh").args(["-NoProfile", "-Command", PARSE]).env("BLOCK", &block).output();
        let Ok(read) = shell else { continue };
        let said = String::from_utf8_lossy(&read.stdout);
        ensure!(read.status.success() && said.trim().is_empty(), "{page}: {block}{said}");
    }
    Ok(())
}

#[test]
fn a_block_that_powershell_would_refuse_is_found() -> Result<()> {
    let folder = crate::repository::root().join("envoy/azure-pipelines");
    for (block, why) in [
        ("Invoke-WebRequest 'https://a", "stays open"),
        ("Invoke-WebRequest (https://a]", "closes nothing"),
        ("Invoke-WebRequest https://a | curl", "is no command"),
        (".\\no-such-script.ps1 a", "is no command"),
    ] {
        let found = wrong(block, &folder).with_context(|| format!("{block} is read"))?;
        ensure!(found.contains(why), "{block}: {found}");
    }
    Ok(())
}
