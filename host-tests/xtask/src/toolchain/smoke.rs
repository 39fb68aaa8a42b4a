//! A smoke build: the smallest module that needs the standard library.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{TARGET, Toolchain};
use crate::program::output;
use crate::workspace::{Workspace, write_atomically};

const SOURCE: &str = r#"//! Allocates, formats and reads the clock: needs an allocator, `core`, `std` and WASI.

/// The length of the current time as text.
#[unsafe(no_mangle)]
pub extern "C" fn smoke() -> usize {
    format!("{:?}", std::time::SystemTime::now()).len()
}
"#;

/// Builds a small module with the toolchain; an error if nothing that looks like a module comes out.
///
/// It has the workspace's release profile and build folder, so that a standard library built from source is built
/// only once, here.
pub fn build(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    let folder = workspace.own_folder().join("smoke");
    let root_manifest = fs::read_to_string(workspace.root().join("Cargo.toml"))
        .context("the workspace's Cargo.toml cannot be read")?;
    let manifest = format!(
        "[package]\nname = \"smoke\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n[workspace]\n\n{}",
        release_profile(&root_manifest)
    );
    write_atomically(&folder.join("Cargo.toml"), manifest.as_bytes())?;
    write_atomically(&folder.join("src").join("lib.rs"), SOURCE.as_bytes())?;
    output(toolchain.cargo(workspace, "build")?.arg("--manifest-path").arg(folder.join("Cargo.toml")))
        .with_context(|| format!("a small module cannot be built with {}", toolchain.describe()))?;
    let module = workspace.wasm_target().join(TARGET).join("release").join("smoke.wasm");
    let bytes = fs::read(&module).with_context(|| format!("the compiler wrote no {}", module.display()))?;
    if !bytes.starts_with(b"\0asm") {
        bail!("{} is not a WebAssembly module", module.display());
    }
    Ok(())
}

/// The `[profile.release]` section of a manifest, as it stands there.
fn release_profile(manifest: &str) -> String {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != "[profile.release]");
    let heading = lines.next().into_iter();
    let section = heading.chain(lines.take_while(|line| !line.trim_start().starts_with('[')));
    section.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_profile_is_copied_up_to_the_next_section() {
        let manifest =
            "[workspace]\n\n[profile.release]\nlto = \"fat\"\nstrip = true\n\n[profile.dev]\nlto = false\n";
        assert_eq!(release_profile(manifest), "[profile.release]\nlto = \"fat\"\nstrip = true\n\n");
        assert_eq!(release_profile("[workspace]\n"), "");
    }
}
