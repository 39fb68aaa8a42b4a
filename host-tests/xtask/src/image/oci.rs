//! An image of one layer, and the archive that it is handed over in: OCI image format 1.1, `oci-layout` 1.0.0.
//!
//! The same module and labels give the same bytes: entries in one order, owned by root, of the year 1970, compressed by one
//! implementation at one level, and JSON with sorted members.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The module in the layer, where Istio and Envoy Gateway look for it.
pub const PLUGIN: &str = "plugin.wasm";
/// Another name of it, the one in `envoy.yaml`.
pub const LINK: &str = "testrelay.wasm";

/// An image: three blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    labels: BTreeMap<String, String>,
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    /// The image of a module, with labels that are annotations of the manifest too.
    ///
    /// The platform is that of `FROM scratch` on most machines; nothing in the image runs on it.
    pub fn new(module: &[u8], labels: &BTreeMap<String, String>) -> Result<Image> {
        let files = layer(module)?;
        let layer = gzip(&files)?;
        let mut config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [digest(&files)] },
        });
        if let Some(created) = labels.get("org.opencontainers.image.created") {
            config["created"] = json!(created);
        }
        let config = canonical(config)?;
        let manifest = canonical(json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &layer)],
            "annotations": labels,
        }))?;
        Ok(Image { labels: labels.clone(), layer, config, manifest })
    }

    /// `sha256:…` of the manifest: what registries, Istio and Envoy Gateway call the image's digest.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// What was said about it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The archive: a tar file with an OCI image layout, in which the image is called by its version.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut this = descriptor(MANIFEST, &self.manifest);
        this["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        if let Some(version) = self.labels.get("org.opencontainers.image.version") {
            this["annotations"] = json!({ "org.opencontainers.image.ref.name": version });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [this] });
        let mut blobs = [&self.manifest, &self.config, &self.layer]
            .map(|blob| (format!("blobs/sha256/{}", sha256(blob)), blob.clone()));
        blobs.sort();

        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", &canonical(index)?)?;
        for (path, blob) in &blobs {
            append(&mut archive, path, blob)?;
        }
        Ok(archive.into_inner()?)
    }
}

/// The lower-case hexadecimal SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with sorted members. By themselves they have the order that the programs built beside this one ask of the library.
fn canonical(mut value: Value) -> Result<Vec<u8>> {
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

/// The layer's files. The module comes first: Istio and Envoy Gateway stop there.
fn layer(module: &[u8]) -> Result<Vec<u8>> {
    let mut files = tar::Builder::new(Vec::new());
    append(&mut files, PLUGIN, module)?;
    let mut link = header(0, 0o777);
    link.set_entry_type(EntryType::Symlink);
    files.append_link(&mut link, LINK, PLUGIN)?;
    Ok(files.into_inner()?)
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> Result<()> {
    Ok(archive.append_data(&mut header(bytes.len() as u64, 0o644), path, bytes)?)
}

/// Root's, of the year 1970.
fn header(size: u64, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Level 9, because an image is made once and fetched often. The header has no time, no name and no operating system.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    const UNKNOWN_SYSTEM: u8 = 255;
    let mut encoder =
        GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
