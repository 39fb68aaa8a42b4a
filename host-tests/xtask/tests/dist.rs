//! `cargo xtask dist`: what is in the folder, and that the version is the same everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use host_tests::env;
use xtask::dist::{self, CHECKSUMS};
use xtask::image::{self, VERSION};
use xtask::workspace::Workspace;

/// The names and the bytes of a release that is made in `target`.
fn release(target: &Path) -> Result<(PathBuf, BTreeMap<String, Vec<u8>>)> {
    let workspace = Workspace::at(Workspace::locate()?.root().to_owned(), target.to_owned());
    let module = fs::read(env::module()?)?;
    let options = image::Options { source: Some("https://git.example/testrelay".into()) };
    let written = image::write(&workspace, &module, &options)?;
    let folder = dist::write(&workspace, &module, &written.path)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok((folder, files))
}

#[test]
fn a_release_has_its_files_and_sha256sum_finds_nothing_wrong() -> Result<()> {
    let target = tempfile::tempdir()?;
    let (folder, files) = release(target.path())?;
    let names = [
        "CHANGELOG.md",
        "LICENSE",
        CHECKSUMS,
        &format!("testrelay-{VERSION}.envoy.yaml"),
        &format!("testrelay-{VERSION}.oci.tar"),
        &format!("testrelay-{VERSION}.schema.json"),
        &format!("testrelay-{VERSION}.wasm"),
    ];
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), names);
    assert_eq!(files[&format!("testrelay-{VERSION}.wasm")], fs::read(env::module()?)?);

    let check = || -> Result<(bool, String)> {
        let mut program = Command::new("sha256sum");
        let said = program.args(["--check", "--strict", CHECKSUMS]).current_dir(&folder).output();
        let said = said.context("sha256sum cannot be run")?;
        Ok((said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned()))
    };
    let (is_right, said) = check()?;
    assert!(is_right, "{said}");
    let checked: BTreeSet<&str> = said.lines().filter_map(|line| line.strip_suffix(": OK")).collect();
    let all_others: BTreeSet<&str> = names.into_iter().filter(|name| *name != CHECKSUMS).collect();
    assert_eq!(checked, all_others);
    fs::write(folder.join("LICENSE"), "another")?;
    assert!(!check()?.0);

    // A second release replaces the first one, whatever has become of it.
    fs::write(folder.join("left-over"), "")?;
    assert_eq!(release(target.path())?.1, files);
    Ok(())
}

#[test]
fn a_release_is_the_same_in_any_folder() -> Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    assert_eq!(release(folders[0].path())?.1, release(folders[1].path())?.1);
    Ok(())
}

/// What stands before a version of Testrelay in files that people copy from.
const BEFORE_A_VERSION: [&str; 7] =
    ["testrelay:", "testrelay-", "testrelay ", "Testrelay ", "newTag: ", ".oci.tar:", "image-volume: "];

/// The version of Testrelay that stands after each of [`BEFORE_A_VERSION`].
fn versions(text: &str) -> Vec<&str> {
    let after = |prefix| text.split(prefix).skip(1);
    let numbers = |rest: &'_ str| rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let found =
        BEFORE_A_VERSION.into_iter().flat_map(after).map(|rest| rest[..numbers(rest)].trim_end_matches('.'));
    found.filter(|version| version.split('.').filter(|number| !number.is_empty()).count() == 3).collect()
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files_below(&entry.path(), into)?,
            false => into.push(entry.path()),
        }
    }
    Ok(())
}

#[test]
fn the_version_of_the_workspace_is_the_one_that_every_page_and_manifest_names() -> Result<()> {
    assert_eq!(
        versions("testrelay:1.2.3-busybox, testrelay 1.2, v testrelay-10.20.30.wasm"),
        ["1.2.3", "10.20.30"]
    );
    let workspace = Workspace::locate()?;
    let mut files = vec![workspace.root().join("README.md")];
    files_below(&workspace.root().join("envoy"), &mut files)?;
    let mut by_file = BTreeMap::new();
    for file in files {
        // The pictures name none.
        if file.extension().is_some_and(|extension| extension == "png") {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for version in versions(&text) {
            ensure!(
                version == VERSION,
                "{} names version {version}; the workspace's Cargo.toml says {VERSION}",
                file.display()
            );
            *by_file.entry(file.strip_prefix(workspace.root())?.display().to_string()).or_insert(0) += 1;
        }
    }
    let with_a_version = [
        "README.md",
        "envoy/gateway/README.md",
        "envoy/gateway/policy.yaml",
        "envoy/istio/README.md",
        "envoy/istio/gateway-pod.yaml",
        "envoy/istio/wasmplugin.yaml",
        "envoy/kubernetes/Dockerfile",
        "envoy/kubernetes/README.md",
        "envoy/kubernetes/container/container.yaml",
        "envoy/kubernetes/image-volume/patch.yaml",
        "envoy/kubernetes/sidecar/kustomization.yaml",
        "envoy/kubernetes/standalone/kustomization.yaml",
    ];
    for file in with_a_version {
        assert!(by_file.contains_key(file), "{file} names no version any more: {by_file:?}");
    }
    Ok(())
}

/// The image that each way of running the module names is one that can be made, and that has what the way needs.
#[test]
fn init_containers_take_the_image_with_cp_and_all_others_the_one_with_the_module_alone() -> Result<()> {
    let workspace = Workspace::locate()?;
    let read = |file: &str| fs::read_to_string(workspace.root().join("envoy").join(file));
    let with_cp = format!("registry.example/testrelay:{VERSION}-busybox");
    for file in ["kubernetes/container/container.yaml", "istio/gateway-pod.yaml"] {
        let text = read(file)?;
        let image =
            text.lines().position(|line| line.trim_start().starts_with(&format!("image: {with_cp} ")));
        let next = text.lines().nth(image.with_context(|| format!("{file} does not name {with_cp}"))? + 1);
        assert!(next.is_some_and(|line| line.contains("command: [cp, /plugin.wasm, ")), "{file}: {next:?}");
    }
    assert!(read("kubernetes/Dockerfile")?.contains(&format!("-t {with_cp} ")));
    for file in ["kubernetes/image-volume/patch.yaml", "istio/wasmplugin.yaml", "gateway/policy.yaml"] {
        let text = read(file)?;
        assert!(text.contains(&format!("registry.example/testrelay:{VERSION}")), "{file}");
        assert!(!text.contains("-busybox"), "{file}");
    }
    Ok(())
}
