//! A container registry: the part of OCI's distribution specification 1.1 that pushing and pulling one image needs.
//!
//! It is as strict as the specification allows: it accepts a blob only with the digest of its bytes, in chunks without a
//! gap, and a manifest only after everything that it names, with the sizes and the media type that it states. Anybody may
//! push and pull. An unknown endpoint is a 404.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{Recorded, Reply, Request, Response, Service};

/// The fake registry.
#[derive(Debug, Default)]
pub struct Registry {
    repositories: BTreeMap<String, Repository>,
    uploads: BTreeMap<u64, Upload>,
    begun: u64,
    requests: Vec<Recorded>,
}

#[derive(Debug, Default)]
struct Repository {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Manifest>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Manifest {
    media_type: String,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Upload {
    repository: String,
    bytes: Vec<u8>,
}

/// A refusal: status, one of the specification's codes, and why.
type Refusal = (u16, &'static str, String);
type Answer = Result<Response, Refusal>;

/// What a path is about; the name may have several parts.
enum Resource<'a> {
    Base,
    Uploads,
    Upload(u64),
    Blob(&'a str),
    Manifest(&'a str),
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// All requests so far, in their order.
    pub fn requests(&self) -> &[Recorded] {
        &self.requests
    }

    /// The digest that a tag stands for.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<&str> {
        self.repositories.get(repository)?.tags.get(tag).map(String::as_str)
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let (name, resource) = resource(request.path())
            .ok_or_else(|| (404, "NAME_UNKNOWN", format!("nothing is at {}", request.path())))?;
        match (request.method.as_str(), resource) {
            ("GET", Resource::Base) => Ok(Response::new(200)),
            ("POST", Resource::Uploads) => Ok(self.begin(name)),
            ("PATCH", Resource::Upload(id)) => self.append(name, id, request),
            ("PUT", Resource::Upload(id)) => self.finish(name, id, request),
            ("GET" | "HEAD", Resource::Blob(digest)) => self.blob(name, digest),
            ("PUT", Resource::Manifest(reference)) => self.put_manifest(name, reference, request),
            ("GET" | "HEAD", Resource::Manifest(reference)) => self.manifest(name, reference),
            (method, _) => Err((405, "UNSUPPORTED", format!("{method} is not offered here"))),
        }
    }

    fn begin(&mut self, name: &str) -> Response {
        self.begun += 1;
        self.uploads.insert(self.begun, Upload { repository: name.into(), bytes: Vec::new() });
        Response::new(202).header("location", &upload_at(name, self.begun)).header("range", "0-0")
    }

    fn append(&mut self, name: &str, id: u64, request: &Request) -> Answer {
        let upload = self.upload(name, id)?;
        if let Some(range) = request.value("content-range") {
            let start = upload.bytes.len();
            let expected = format!("{start}-{}", (start + request.body.len()).saturating_sub(1));
            if range != expected {
                return Err((416, "BLOB_UPLOAD_INVALID", format!("the range is {range}, not {expected}")));
            }
        }
        upload.bytes.extend(&request.body);
        let end = upload.bytes.len().saturating_sub(1);
        Ok(Response::new(202).header("location", &upload_at(name, id)).header("range", &format!("0-{end}")))
    }

    fn finish(&mut self, name: &str, id: u64, request: &Request) -> Answer {
        let upload = self.upload(name, id)?;
        upload.bytes.extend(&request.body);
        let actual = digest(&upload.bytes);
        let mut parameters = form_urlencoded::parse(request.query().as_bytes());
        let said = parameters.find(|(name, _)| name == "digest").map(|(_, said)| said);
        if said.as_deref() != Some(actual.as_str()) {
            return Err((400, "DIGEST_INVALID", format!("the digest is {actual}, not {said:?}")));
        }
        let bytes = std::mem::take(&mut upload.bytes);
        self.uploads.remove(&id);
        self.repositories.entry(name.into()).or_default().blobs.insert(actual.clone(), bytes);
        Ok(created(&format!("/v2/{name}/blobs/{actual}"), &actual))
    }

    fn upload(&mut self, name: &str, id: u64) -> Result<&mut Upload, Refusal> {
        let upload = self.uploads.get_mut(&id).filter(|upload| upload.repository == name);
        upload.ok_or_else(|| (404, "BLOB_UPLOAD_UNKNOWN", format!("no upload {id}")))
    }

    fn blob(&self, name: &str, digest: &str) -> Answer {
        let blob = self.repositories.get(name).and_then(|repository| repository.blobs.get(digest));
        let blob = blob.ok_or_else(|| (404, "BLOB_UNKNOWN", format!("{name} has no {digest}")))?;
        Ok(Response::with_body(200, "application/octet-stream", blob.clone())
            .header("docker-content-digest", digest))
    }

    fn put_manifest(&mut self, name: &str, reference: &str, request: &Request) -> Answer {
        let invalid = |why: String| (400, "MANIFEST_INVALID", why);
        let repository = self.repositories.entry(name.into()).or_default();
        let manifest: Value = serde_json::from_slice(&request.body).map_err(|e| invalid(e.to_string()))?;
        let media_type = request.value("content-type").unwrap_or_default();
        if manifest["mediaType"] != media_type.as_str() {
            return Err(invalid(format!("sent as {media_type:?}, but it is {}", manifest["mediaType"])));
        }
        let layers = manifest["layers"].as_array().ok_or_else(|| invalid("no layers".into()))?;
        for named in [&manifest["config"]].into_iter().chain(layers) {
            let digest = named["digest"].as_str().unwrap_or_default();
            let blob = repository.blobs.get(digest);
            let blob = blob.ok_or_else(|| (404, "MANIFEST_BLOB_UNKNOWN", format!("no blob {named}")))?;
            if named["size"] != blob.len() {
                return Err((400, "SIZE_INVALID", format!("{named} has {} bytes", blob.len())));
            }
        }
        let actual = digest(&request.body);
        match reference.contains(':') {
            true if reference != actual => {
                return Err((400, "DIGEST_INVALID", format!("the digest is {actual}, not {reference}")));
            }
            true => {}
            false => drop(repository.tags.insert(reference.into(), actual.clone())),
        }
        repository.manifests.insert(actual.clone(), Manifest { media_type, bytes: request.body.clone() });
        Ok(created(&format!("/v2/{name}/manifests/{actual}"), &actual))
    }

    fn manifest(&self, name: &str, reference: &str) -> Answer {
        let found = self.repositories.get(name).and_then(|repository| {
            let digest = repository.tags.get(reference).map_or(reference, String::as_str);
            repository.manifests.get_key_value(digest)
        });
        let (digest, manifest) =
            found.ok_or_else(|| (404, "MANIFEST_UNKNOWN", format!("{name} has no {reference}")))?;
        Ok(Response::with_body(200, &manifest.media_type, manifest.bytes.clone())
            .header("docker-content-digest", digest))
    }
}

impl Service for Registry {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        let answer = self.answer(request).unwrap_or_else(|(status, code, message)| {
            let errors = json!({ "errors": [{ "code": code, "message": message }] });
            Response::with_body(status, "application/json", errors.to_string())
        });
        let status = Some(answer.status);
        self.requests.push(Recorded { at: now, request: request.clone(), status });
        answer.into()
    }
}

/// `sha256:…` of bytes.
fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn upload_at(name: &str, id: u64) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn created(location: &str, digest: &str) -> Response {
    Response::new(201).header("location", location).header("docker-content-digest", digest)
}

fn resource(path: &str) -> Option<(&str, Resource<'_>)> {
    let path = path.strip_prefix("/v2/")?;
    if path.is_empty() {
        return Some(("", Resource::Base));
    }
    if let Some((name, upload)) = path.split_once("/blobs/uploads/") {
        return Some((
            name,
            if upload.is_empty() { Resource::Uploads } else { Resource::Upload(upload.parse().ok()?) },
        ));
    }
    if let Some((name, digest)) = path.split_once("/blobs/") {
        return Some((name, Resource::Blob(digest)));
    }
    let (name, reference) = path.split_once("/manifests/")?;
    Some((name, Resource::Manifest(reference)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &[u8] = b"{}";
    const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

    fn ask(registry: &mut Registry, request: &Request) -> Response {
        registry.handle(0, request).response().unwrap().clone()
    }

    fn push(registry: &mut Registry, blob: &[u8]) -> Response {
        let begun = ask(registry, &Request::new("POST", "/v2/team/testrelay/blobs/uploads/"));
        let target =
            format!("{}?digest={}", begun.value("location").unwrap(), digest(blob).replace(':', "%3A"));
        ask(registry, &Request::new("PUT", &target).body(blob))
    }

    fn manifest(size: usize) -> Vec<u8> {
        let config = json!({ "mediaType": "x", "digest": digest(CONFIG), "size": size });
        json!({ "mediaType": TYPE, "config": config, "layers": [] }).to_string().into_bytes()
    }

    fn put(reference: &str, manifest: Vec<u8>) -> Request {
        Request::new("PUT", &format!("/v2/team/testrelay/manifests/{reference}"))
            .header("content-type", TYPE)
            .body(manifest)
    }

    fn code(response: &Response) -> String {
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }

    #[test]
    fn an_image_that_was_pushed_is_pulled_by_tag_and_by_digest() {
        let mut registry = Registry::new();
        let manifest = manifest(CONFIG.len());
        assert_eq!(code(&ask(&mut registry, &put("1", manifest.clone()))), "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(push(&mut registry, CONFIG).status, 201);
        assert_eq!(ask(&mut registry, &put("1", manifest.clone())).status, 201);
        assert_eq!(registry.tag("team/testrelay", "1"), Some(digest(&manifest).as_str()));
        for reference in ["1", &digest(&manifest)] {
            let target = format!("/v2/team/testrelay/manifests/{reference}");
            let pulled = ask(&mut registry, &Request::new("GET", &target));
            assert_eq!((pulled.status, pulled.value("content-type").as_deref()), (200, Some(TYPE)));
            assert_eq!(pulled.body, manifest);
        }
        let blob = Request::new("GET", &format!("/v2/team/testrelay/blobs/{}", digest(CONFIG)));
        assert_eq!(ask(&mut registry, &blob).body, CONFIG);
    }

    #[test]
    fn a_blob_is_taken_only_with_its_digest_and_without_a_gap() {
        let mut registry = Registry::new();
        let begun = ask(&mut registry, &Request::new("POST", "/v2/a/blobs/uploads/"));
        let upload = begun.value("location").unwrap();
        let chunk = |range: &str| Request::new("PATCH", &upload).header("content-range", range).body("ab");
        assert_eq!(ask(&mut registry, &chunk("1-2")).status, 416);
        assert_eq!(ask(&mut registry, &chunk("0-1")).status, 202);
        assert_eq!(ask(&mut registry, &chunk("2-3")).value("range").as_deref(), Some("0-3"));
        let other = format!("{upload}?digest={}", digest(b"abba"));
        assert_eq!(code(&ask(&mut registry, &Request::new("PUT", &other))), "DIGEST_INVALID");
        let right = format!("{upload}?digest={}", digest(b"abab"));
        assert_eq!(ask(&mut registry, &Request::new("PUT", &right)).status, 201);
        assert_eq!(ask(&mut registry, &Request::new("PUT", &right)).status, 404);
    }

    #[test]
    fn a_manifest_must_say_what_is_true() {
        let mut registry = Registry::new();
        push(&mut registry, CONFIG);
        assert_eq!(code(&ask(&mut registry, &put("1", manifest(7)))), "SIZE_INVALID");
        let wrong = put(&digest(b"x"), manifest(CONFIG.len()));
        assert_eq!(code(&ask(&mut registry, &wrong)), "DIGEST_INVALID");
        let untyped = Request::new("PUT", "/v2/a/manifests/1").body(manifest(CONFIG.len()));
        assert_eq!(code(&ask(&mut registry, &untyped)), "MANIFEST_INVALID");
        assert_eq!(registry.tag("team/testrelay", "1"), None);
        for (method, target, status) in
            [("GET", "/v2/", 200), ("GET", "/v1/", 404), ("DELETE", "/v2/a/manifests/1", 405)]
        {
            assert_eq!(ask(&mut registry, &Request::new(method, target)).status, status, "{method} {target}");
        }
    }
}
