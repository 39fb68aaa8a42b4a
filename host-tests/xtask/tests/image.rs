//! `cargo xtask image`: what is in the image, that it is the same each time, and that an Envoy runs what a registry hands
//! out of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use fakes::{Reply, Response, Server, Service, Status, execution};
use flate2::read::GzDecoder;
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, Request, env};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout};
use std::time::Duration;
use xtask::image::oci::{Image, sha256};
use xtask::image::{self, labels};
use xtask::workspace::{Commit, Workspace};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The files of an archive, by their paths.
fn files(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        ensure!(files.insert(path.clone(), bytes).is_none(), "{path} is there twice");
    }
    Ok(files)
}

/// The blob of a digest, which it must have, and the size that was said.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, named: &oci_spec::image::Descriptor) -> Result<&'a [u8]> {
    let digest = named.digest().to_string();
    let hex = digest.strip_prefix("sha256:").context("not sha256")?;
    let bytes = files.get(&format!("blobs/sha256/{hex}")).with_context(|| format!("no blob {digest}"))?;
    ensure!(sha256(bytes) == hex, "{digest} is the name of other bytes");
    ensure!(named.size() == bytes.len() as u64, "{digest}: {} is not its size", named.size());
    Ok(bytes)
}

/// The module in a layer, found as Istio and Envoy Gateway find it: the first entry whose last part is `plugin.wasm`.
fn plugin(layer: &[u8]) -> Result<Vec<u8>> {
    for entry in tar::Archive::new(GzDecoder::new(layer)).entries()? {
        let mut entry = entry?;
        if entry.path()?.file_name().is_some_and(|name| name == "plugin.wasm") {
            let mut module = Vec::new();
            entry.read_to_end(&mut module)?;
            return Ok(module);
        }
    }
    anyhow::bail!("no plugin.wasm in the layer")
}

fn commit() -> Commit {
    Commit { hash: "5d38d31b2f5c".into(), time: "2026-01-23T16:44:02Z".into(), dirty: false }
}

fn image_of(module: &[u8]) -> Result<Image> {
    Image::new(module, &labels(Some(&commit()), Some("https://git.example/testrelay")))
}

#[test]
fn the_archive_is_an_image_layout_in_which_every_digest_is_right() -> Result<()> {
    let module = fs::read(env::module()?)?;
    let image = image_of(&module)?;
    let files = files(&image.archive()?)?;
    let layout: OciLayout = serde_json::from_slice(&files["oci-layout"])?;
    assert_eq!(layout.image_layout_version(), "1.0.0");
    let index: ImageIndex = serde_json::from_slice(&files["index.json"])?;
    let [named] = &index.manifests()[..] else { panic!("{} manifests", index.manifests().len()) };
    assert_eq!(named.digest().to_string(), image.digest());
    let name = named.annotations().as_ref().and_then(|all| all.get("org.opencontainers.image.ref.name"));
    assert_eq!(name.map(String::as_str), Some(image::VERSION));

    let manifest: ImageManifest = serde_json::from_slice(blob(&files, named)?)?;
    assert_eq!(manifest.media_type(), &Some(MediaType::ImageManifest));
    let [layer] = &manifest.layers()[..] else { panic!("{} layers", manifest.layers().len()) };
    assert_eq!(layer.media_type(), &MediaType::ImageLayerGzip);
    let layer = blob(&files, layer)?;
    let config: ImageConfiguration = serde_json::from_slice(blob(&files, manifest.config())?)?;
    let mut uncompressed = Vec::new();
    GzDecoder::new(layer).read_to_end(&mut uncompressed)?;
    assert_eq!(config.rootfs().diff_ids(), &[format!("sha256:{}", sha256(&uncompressed))]);
    assert_eq!(config.created().as_deref(), Some("2026-01-23T16:44:02Z"));
    let labels = config.config().as_ref().and_then(|config| config.labels().clone()).context("no labels")?;
    assert_eq!(&labels.into_iter().collect::<BTreeMap<_, _>>(), image.labels());
    // oci-layout, index.json, and three blobs.
    assert_eq!(files.len(), 5);

    assert_eq!(plugin(layer)?, module);
    let mut entries = tar::Archive::new(&uncompressed[..]);
    let entries = entries.entries()?.map(|entry| {
        let entry = entry?;
        let header = entry.header();
        assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, 0));
        let link = entry.link_name()?.map(|link| link.display().to_string());
        Ok((entry.path()?.display().to_string(), header.mode()?, link))
    });
    let entries = entries.collect::<Result<Vec<_>>>()?;
    let link = Some("plugin.wasm".to_owned());
    assert_eq!(entries, [("plugin.wasm".into(), 0o644, None), ("testrelay.wasm".into(), 0o777, link)]);
    Ok(())
}

#[test]
fn the_same_module_gives_the_same_bytes_in_any_folder() -> Result<()> {
    let module = fs::read(env::module()?)?;
    let written = |folder: &Path| -> Result<Vec<u8>> {
        let workspace = Workspace::at(folder.join("source"), folder.join("target"));
        fs::create_dir_all(workspace.root())?;
        let options = image::Options { source: Some("https://git.example/testrelay".into()) };
        let written = image::write(&workspace, &module, &options)?;
        assert_eq!(written.path, folder.join("target/testrelay").join(image::file_name()));
        Ok(fs::read(written.path)?)
    };
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [one, other] = [written(folders[0].path())?, written(folders[1].path())?];
    assert_eq!(sha256(&one), sha256(&other));
    Ok(())
}

/// Holds the whole chain of bytes, the compressor's too: where it changes, releases get another digest, and that is to be
/// known beforehand.
#[test]
fn a_small_image_has_the_digest_that_it_always_had() -> Result<()> {
    let module: Vec<u8> = (0..40_000_u32).flat_map(|n| (n * n / 7).to_le_bytes()).collect();
    let labels = [("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned())].into();
    let image = Image::new(&module, &labels)?;
    assert_eq!(image.digest(), "sha256:67c46b91c3fa696aabc6cc66191e4a999a860cc18dfcfbf8e8f46a81151a86a3");
    assert_eq!(sha256(&image.archive()?), "aefcbc1f07bb1941626aa14b3f76599c35c2a0d7562cc766648b7df00f40ca9a");
    Ok(())
}

/// A registry that offers one image for pulling: its manifest for any tag, its blobs by their digests.
struct Registry(BTreeMap<String, Vec<u8>>);

impl Service for Registry {
    fn handle(&mut self, _: i64, request: &fakes::Request) -> Reply {
        let manifest = || -> Result<&[u8]> {
            let index: ImageIndex = serde_json::from_slice(&self.0["index.json"])?;
            blob(&self.0, index.manifests().first().context("no manifest")?)
        };
        let reply = match request.path().rsplit_once('/') {
            Some(("/v2", "")) => Ok(Response::new(200)),
            Some(("/v2/team/testrelay/manifests", _)) => {
                manifest().map(|bytes| Response::with_body(200, MediaType::ImageManifest.as_ref(), bytes))
            }
            Some(("/v2/team/testrelay/blobs", digest)) => {
                let blob = self.0.get(&format!("blobs/{}", digest.replace(':', "/")));
                blob.map(|bytes| Response::with_body(200, "application/octet-stream", &bytes[..]))
                    .context("no such blob")
            }
            _ => Err(anyhow::anyhow!("no such endpoint")),
        };
        reply.unwrap_or_else(|error| Response::with_body(404, "text/plain", error.to_string())).into()
    }
}

/// What a client gets for the image's tag, which compares each digest with the bytes: the manifest's digest, and the
/// module in the last layer.
fn pulled(registry: &Server) -> Result<(String, Vec<u8>)> {
    let host = registry.addr().to_string();
    let config =
        ClientConfig { protocol: ClientProtocol::HttpsExcept(vec![host.clone()]), ..Default::default() };
    // Only its first call has an effect, and nothing here speaks TLS: reqwest wants to know whose it would be.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(config);
    let reference: Reference = format!("{host}/team/testrelay:{}", image::VERSION).parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pulled = runtime.block_on(client.pull(&reference, &RegistryAuth::Anonymous, vec![LAYER]))?;
    let layer = pulled.layers.last().context("no layer")?;
    Ok((pulled.digest.context("no digest")?, plugin(&layer.data)?))
}

#[test]
fn an_envoy_runs_what_a_registry_hands_out() -> Result<()> {
    let image = image_of(&fs::read(env::module()?)?)?;
    let registry = Server::start(Arc::new(Mutex::new(Registry(files(&image.archive()?)?))))?;
    let (digest, module) = pulled(&registry)?;
    assert_eq!(digest, image.digest());

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plugin.wasm");
    fs::write(&file, module)?;
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.wire(host_tests::Setup::with_module(&file)))?;
    assert_eq!(Request::get("/testrelay/healthz").send(envoy.address())?.text(), "ok\n");
    let run = scene.pipeline(1);
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    assert_eq!(run.check("shop-e2e").send(envoy.address())?.status, 200);
    assert_eq!(scene.decision(&run, Duration::from_secs(60))?.result(), "succeeded");
    envoy.stop()
}
