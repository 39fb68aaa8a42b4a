//! `cargo xtask image`: the module as an OCI image in an OCI archive, made without a container tool.
//!
//! The image is `FROM scratch` with one layer, which has `/plugin.wasm`. Three readers take it from there:
//!
//! - Istio's agent and Envoy Gateway look for `plugin.wasm` in the last layer, of type `…tar+gzip` (`pkg/wasm` and
//!   `internal/wasm`, both `imagefetcher.go`).
//! - A Kubernetes image volume shows the whole layer; `/testrelay.wasm`, a link, is the name in `envoy.yaml`.
//!
//! One manifest and no index of platforms: where a checksum is given, both fetchers compare it with the digest of the
//! manifest that they end at, which for an index is not the digest that was pushed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::module::{Build, build};
use crate::toolchain;
use crate::workspace::{Commit, Workspace, write_atomically};

pub mod oci;

use oci::Image;

/// What images, archives and the module are called by: the version of the whole workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The prefix of the keys that the OCI image specification gives a meaning.
const OCI_KEY: &str = "org.opencontainers.image.";

/// What a user may say about the image.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the source can be had; `None`: as git's remote `origin` says.
    pub source: Option<String>,
}

/// A written image.
#[derive(Debug, Clone)]
pub struct Written {
    /// The archive, below `target/testrelay/`.
    pub path: PathBuf,
    /// What is in it.
    pub image: Image,
}

/// `cargo xtask image`.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let toolchain = toolchain::ensure()?;
    let module = build(workspace, &toolchain, Build::default())?;
    println!("module: {} {} bytes", module.path.display(), module.bytes);
    let bytes =
        fs::read(&module.path).with_context(|| format!("{} cannot be read", module.path.display()))?;
    let written = write(workspace, &bytes, options)?;
    println!("{}", report(&written, &bytes));
    Ok(())
}

/// Makes the image of a module and writes its archive.
pub fn write(workspace: &Workspace, module: &[u8], options: &Options) -> Result<Written> {
    let commit = workspace.commit();
    let source = options.source.clone().or_else(|| web_address(&workspace.origin()?));
    let image = Image::new(module, &labels(commit.as_ref(), source.as_deref()))?;
    let path = workspace.modules().join(file_name());
    write_atomically(&path, &image.archive()?)?;
    Ok(Written { path, image })
}

/// What the archive is called.
pub fn file_name() -> String {
    format!("testrelay-{VERSION}.oci.tar")
}

/// The labels, which are the manifest's annotations too. Nothing in them comes from a clock: the time is the commit's, and
/// where files differ from the commit there is none.
pub fn labels(commit: Option<&Commit>, source: Option<&str>) -> BTreeMap<String, String> {
    let revision = commit.map_or_else(|| "unknown".to_owned(), Commit::revision);
    let created = commit.filter(|commit| !commit.dirty).map(|commit| commit.time.as_str());
    let known = [
        ("title", Some("Testrelay")),
        (
            "description",
            Some("Azure DevOps approval checks from Testkube results, as a proxy-wasm module for Envoy"),
        ),
        ("licenses", Some(env!("CARGO_PKG_LICENSE"))),
        ("version", Some(VERSION)),
        ("revision", Some(revision.as_str())),
        ("source", source),
        ("created", created),
    ];
    let label = |(key, value): (&str, Option<&str>)| Some((format!("{OCI_KEY}{key}"), value?.to_owned()));
    known.into_iter().filter_map(label).collect()
}

/// A remote's address as a browser takes it: without the user, without `.git`. `None` for a path of this machine.
fn web_address(remote: &str) -> Option<String> {
    let (rest, is_https) = match remote.split_once("://") {
        Some(("https", rest)) => (rest.to_owned(), true),
        Some(("ssh", rest)) => (rest.to_owned(), false),
        Some(_) => return None,
        // git@host:path
        None => {
            let (host, path) = remote.split_once(':')?;
            (!host.contains('/')).then(|| (format!("{host}/{path}"), false))?
        }
    };
    let (host, path) = rest.split_once('/')?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    // A port of ssh is none of https.
    let host = if is_https { host } else { host.split_once(':').map_or(host, |(host, _)| host) };
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    (!host.is_empty() && !path.is_empty()).then(|| format!("https://{host}/{path}"))
}

/// What the user is told: what was made, how it is pushed, and what to pin it by.
fn report(written: &Written, module: &[u8]) -> String {
    let Written { path, image } = written;
    let label = |key: &str| image.labels().get(&format!("{OCI_KEY}{key}")).map(String::as_str);
    let revision = match label("revision").unwrap_or_default() {
        "unknown" => "unknown: this is no clone of the repository".to_owned(),
        dirty if dirty.ends_with("-dirty") => {
            format!("{dirty}: files differ from the commit, not for a release")
        }
        clean => clean.to_owned(),
    };
    let source = label("source").unwrap_or("none: `--source URL` names it");
    let digest = image.digest();
    let hex = digest.trim_start_matches("sha256:");
    format!(
        "image: {path} {bytes} bytes\n\
         version: {VERSION}\n\
         revision: {revision}\n\
         source: {source}\n\
         digest: {digest}\n\
         sha256 of the module: {module}\n\
         \n\
         To push it with its digest kept, for example:\n  \
           skopeo copy --preserve-digests oci-archive:{path}:{VERSION} docker://registry.example/testrelay:{VERSION}\n\
         To pin it:\n  \
           Istio, WasmPlugin:         url: oci://registry.example/testrelay@{digest}\n  \
           … by tag:                  url: oci://registry.example/testrelay:{VERSION}\n                             \
                                      sha256: {hex}\n  \
           Envoy Gateway:             url: registry.example/testrelay@{digest}\n  \
           Kubernetes, image volume:  reference: registry.example/testrelay@{digest}\n  \
           WasmPlugin by http(s):     sha256: {module}",
        path = path.display(),
        bytes = image.archive().map_or(0, |archive| archive.len()),
        module = oci::sha256(module),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(dirty: bool) -> Commit {
        Commit { hash: "5d38d31b2f5c".into(), time: "2026-01-23T16:44:02Z".into(), dirty }
    }

    fn value(labels: &BTreeMap<String, String>, key: &str) -> Option<String> {
        labels.get(&format!("org.opencontainers.image.{key}")).cloned()
    }

    #[test]
    fn the_labels_say_what_was_built_from_what() {
        let labels = labels(Some(&commit(false)), Some("https://git.example/testrelay"));
        assert_eq!(value(&labels, "version").as_deref(), Some(VERSION));
        assert_eq!(value(&labels, "revision").as_deref(), Some("5d38d31b2f5c"));
        assert_eq!(value(&labels, "created").as_deref(), Some("2026-01-23T16:44:02Z"));
        assert_eq!(value(&labels, "source").as_deref(), Some("https://git.example/testrelay"));
        assert_eq!(value(&labels, "licenses").as_deref(), Some("Apache-2.0"));
        assert_eq!(labels.len(), 7);
    }

    #[test]
    fn changed_files_and_a_missing_git_are_not_passed_off_as_a_revision() {
        let changed = labels(Some(&commit(true)), None);
        assert_eq!(value(&changed, "revision").as_deref(), Some("5d38d31b2f5c-dirty"));
        assert_eq!((value(&changed, "created"), value(&changed, "source")), (None, None));
        let unknown = labels(None, None);
        assert_eq!(value(&unknown, "revision").as_deref(), Some("unknown"));
        assert_eq!(value(&unknown, "created"), None);
    }

    #[test]
    fn a_remote_becomes_an_address_that_others_reach_and_nobodys_password() {
        let shop = Some("https://git.example/team/testrelay");
        for remote in [
            "https://git.example/team/testrelay",
            "https://git.example/team/testrelay.git",
            "https://me:secret-token@git.example/team/testrelay.git/",
            "ssh://git@git.example:2222/team/testrelay.git",
            "git@git.example:team/testrelay.git",
        ] {
            assert_eq!(web_address(remote).as_deref(), shop, "{remote}");
        }
        let port = web_address("https://git.example:8443/testrelay");
        assert_eq!(port.as_deref(), Some("https://git.example:8443/testrelay"));
        for remote in
            ["/home/me/testrelay", "../testrelay", "./a:b", "file:///srv/testrelay", "https://x", ""]
        {
            assert_eq!(web_address(remote), None, "{remote}");
        }
    }

    #[test]
    fn the_report_says_both_checksums_and_which_is_for_what() {
        let module = b"\0asm\x01\0\0\0";
        let image = Image::new(module, &labels(Some(&commit(true)), None)).unwrap();
        let said = report(&Written { path: "/t/x.tar".into(), image: image.clone() }, module);
        let (digest, module) = (image.digest(), oci::sha256(module));
        for line in [
            "revision: 5d38d31b2f5c-dirty: files differ from the commit, not for a release",
            "source: none: `--source URL` names it",
            &format!("digest: {digest}"),
            &format!("sha256 of the module: {module}"),
            &format!("url: oci://registry.example/testrelay@{digest}"),
            &format!("sha256: {}\n", &digest["sha256:".len()..]),
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}
