//! POST, PUT and DELETE.

use serde::Deserialize;
use serde_json::Value;

use super::Kubernetes;
use super::call::{Options, Resource};
use super::object::Object;
use super::status::{self, Cause};
use super::store::Key;
use super::valid::{self, MAX_BODY};
use super::view::View;
use crate::http::{Request, Response};
use crate::timestamp;

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// A request that writes.
pub(super) struct Write<'a> {
    pub(super) now: i64,
    pub(super) request: &'a Request,
    pub(super) options: &'a Options,
    pub(super) view: View,
    pub(super) resource: Resource,
    pub(super) namespace: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Write<'_> {
    pub(super) fn key(&self, name: &str) -> Key {
        (self.resource, self.namespace.to_owned(), name.to_owned())
    }

    /// The name that the object in the body has.
    pub(super) fn name(&self) -> String {
        let body: Value = serde_json::from_slice(&self.request.body).unwrap_or_default();
        body["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    }

    /// Whole seconds.
    fn time(&self) -> String {
        timestamp::go(self.now - self.now.rem_euclid(1000))
    }

    /// What stands before the slash of the client's name.
    fn manager(&self) -> String {
        let given = self.options.get("fieldManager").map(str::to_owned);
        let agent = || self.request.value("user-agent")?.split('/').next().map(str::to_owned);
        given.or_else(agent).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
    }

    /// The object in the body, read as its type.
    fn object(&self) -> Result<Object, Response> {
        let Write { resource, request, .. } = self;
        let body = json(request)?.map_err(|why| {
            let kind = resource.kind();
            let begin = String::from_utf8_lossy(&request.body).chars().take(30).collect::<String>();
            let begin = if begin.is_empty() { "<empty>".to_owned() } else { format!("{begin} ...") };
            status::bad_request(&format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse \
                 error: {why} ({begin})"
            ))
        })?;
        self.fits_the_path(&body)?;
        let mut object = Object::read(*resource, &body)
            .map_err(|error| status::undecodable(*resource, &format!("json: {error}")))?;
        valid::normalise(&mut object).map_err(|why| status::undecodable(*resource, &why))?;
        let given = &object.metadata.namespace;
        if !given.is_empty() && given != self.namespace {
            return Err(status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        self.namespace.clone_into(&mut object.metadata.namespace);
        Ok(object)
    }

    /// Version and kind: those of the path, or none.
    fn fits_the_path(&self, body: &Value) -> Result<(), Response> {
        let resource = self.resource;
        let given = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, version) = (given("kind"), given("apiVersion"));
        let short = version.rsplit('/').next().unwrap_or_default();
        let why = if !kind.is_empty() && kind != resource.kind() {
            format!("converting ({short}.{kind}) to (core.{}): unknown conversion", resource.kind())
        } else if !version.is_empty() && version != resource.api_version() {
            format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/runtime/scheme.go:111\""
            )
        } else {
            return Ok(());
        };
        Err(status::bad_request(&format!(
            "{kind} in version \"{short}\" cannot be handled as a {}: {why}",
            resource.kind()
        )))
    }
}

impl Kubernetes {
    pub(super) fn create(&mut self, write: &Write<'_>) -> Result<Response, Response> {
        let object = write.object()?;
        self.insert(write, object)
    }

    /// In the order of the real server: namespace, validation, quota, and only then whether the name is taken.
    fn insert(&mut self, write: &Write<'_>, mut object: Object) -> Result<Response, Response> {
        let Write { resource, namespace, .. } = *write;
        if object.metadata.name.is_empty() && !object.metadata.generate_name.is_empty() {
            object.metadata.name = format!("{}{}", object.metadata.generate_name, self.suffix());
        }
        let name = object.metadata.name.clone();
        self.admits(resource, namespace, &name)?;
        let causes = valid::causes(&object);
        if !causes.is_empty() {
            return Err(status::invalid(resource, &name, &causes));
        }
        self.charge(write, &name)?;
        if !matches!(object.metadata.resource_version.as_str(), "" | "0") {
            return Err(status::unforeseen("resourceVersion should not be set on objects to be created"));
        }
        if let Some(old) = self.store.get(&write.key(&name)) {
            return Err(status::already_exists(resource, &name, old.metadata.deletion_timestamp.is_some()));
        }
        let time = write.time();
        object.metadata.uid = self.store.new_uid();
        (object.metadata.deletion_timestamp, object.metadata.deletion_grace_period_seconds) = (None, None);
        object.metadata.managed_fields = Some(vec![object.managed_by(resource, &write.manager(), &time)]);
        object.metadata.creation_timestamp = Some(time);
        if write.options.is_dry_run() {
            return Ok(write.view.object(201, resource, &object));
        }
        let stored = self.store.put(write.key(&name), object);
        Ok(write.view.object(201, resource, &stored))
    }

    pub(super) fn update(&mut self, write: &Write<'_>, name: &str) -> Result<Response, Response> {
        let Write { resource, now, .. } = *write;
        let mut object = write.object()?;
        match object.metadata.name.as_str() {
            "" => {
                return Err(status::bad_request(&format!(
                    "the name of the object ({name} based on URL) was undeterminable: name must be provided"
                )));
            }
            other if other != name => {
                return Err(status::bad_request(&format!(
                    "the name of the object ({other}) does not match the name on the URL ({name})"
                )));
            }
            _ => {}
        }
        let version = match object.metadata.resource_version.as_str() {
            "" => 0,
            text => text.parse::<u64>().map_err(|_| {
                status::unforeseen(&format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))
            })?,
        };
        let key = write.key(name);
        let Some(old) = self.store.get(&key).cloned() else {
            return self.update_missing(write, object);
        };
        let uid = &object.metadata.uid;
        if !uid.is_empty() && *uid != old.metadata.uid {
            return Err(wrong_uid(write, name, uid, &old.metadata.uid));
        }
        if version == 0 && valid::needs_version(resource) {
            return Err(no_version(resource, name));
        }
        if version != 0 && version.to_string() != old.metadata.resource_version {
            return Err(status::conflict(resource, name, MODIFIED));
        }
        let mut causes = valid::causes(&object);
        causes.extend(valid::immutable(&old, &object));
        if !causes.is_empty() {
            return Err(status::invalid(resource, name, &causes));
        }
        keep(&old, &mut object, write);
        if old.metadata.deletion_timestamp.is_some() && object.metadata.finalizers.is_empty() {
            if !write.options.is_dry_run() {
                self.remove(&key, now);
            }
            object.metadata.resource_version.clone_from(&old.metadata.resource_version);
            return Ok(write.view.object(200, resource, &object));
        }
        if old.is_same_as(&object) || write.options.is_dry_run() {
            object.metadata.resource_version.clone_from(&old.metadata.resource_version);
            return Ok(write.view.object(200, resource, &object));
        }
        let stored = self.store.put(key, object);
        Ok(write.view.object(200, resource, &stored))
    }

    /// A Secret is not made by an update. A Lease is, unless the update says which Lease it means.
    fn update_missing(&mut self, write: &Write<'_>, mut object: Object) -> Result<Response, Response> {
        let name = object.metadata.name.clone();
        if write.resource == Resource::Secrets {
            return Err(status::not_found(write.resource, &name));
        }
        if !object.metadata.uid.is_empty() {
            return Err(wrong_uid(write, &name, &object.metadata.uid, ""));
        }
        object.metadata.resource_version.clear();
        self.insert(write, object)
    }

    pub(super) fn delete(&mut self, write: &Write<'_>, name: &str) -> Result<Response, Response> {
        let Write { resource, request, now, .. } = *write;
        // If there is a body, the query's options are ignored.
        let mut delete = DeleteOptions::default();
        let mut is_dry_run = write.options.is_dry_run();
        if !request.body.is_empty() {
            let body = json(request)?.map_err(|why| {
                status::bad_request(&format!("couldn't get version/kind; json parse error: {why}"))
            })?;
            delete =
                DeleteOptions::deserialize(body).map_err(|error| status::bad_request(&error.to_string()))?;
            is_dry_run = delete.dry_run.is_some_and(|given| given == ["All"]);
        }
        let key = write.key(name);
        let old = self.store.get(&key).cloned().ok_or_else(|| status::not_found(resource, name))?;
        check(&delete.preconditions.unwrap_or_default(), resource, &old)?;
        let uid = &old.metadata.uid;
        if old.metadata.finalizers.is_empty() {
            if !is_dry_run {
                self.remove(&key, now);
            }
            return Ok(status::deleted(resource, name, uid));
        }
        let mut object = (*old).clone();
        if object.metadata.deletion_timestamp.is_none() {
            object.metadata.deletion_timestamp = Some(write.time());
            object.metadata.deletion_grace_period_seconds = Some(0);
            if !is_dry_run {
                object = (*self.store.put(key, object)).clone();
            }
        }
        Ok(write.view.object(200, resource, &object))
    }

    fn admits(&self, resource: Resource, namespace: &str, name: &str) -> Result<(), Response> {
        let Some(found) = self.namespaces.get(namespace) else {
            let message = format!("namespaces \"{namespace}\" not found");
            let details = serde_json::json!({"name": namespace, "kind": "namespaces"});
            return Err(status::failure(404, "NotFound", &message, details));
        };
        if found.is_ending {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let cause = format!("namespace {namespace} is being terminated");
            let cause = Cause::new("metadata.namespace", "NamespaceTerminating", cause);
            return Err(status::not_admitted(resource, name, &why, Some(cause)));
        }
        Ok(())
    }

    /// Counts one more against the namespace's quota, whatever becomes of it afterwards.
    fn charge(&mut self, write: &Write<'_>, name: &str) -> Result<(), Response> {
        let namespace = self.namespaces.get_mut(write.namespace);
        let Some(quota) = namespace.and_then(|namespace| namespace.quota.as_mut()) else { return Ok(()) };
        if write.resource != Resource::Secrets {
            return Ok(());
        }
        if let Some(why) = quota.refuses() {
            return Err(status::not_admitted(write.resource, name, &why, None));
        }
        if !write.options.is_dry_run() {
            quota.charge();
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key, now: i64) {
        self.store.remove(key);
        if let Some(quota) = self.namespaces.get_mut(&key.1).and_then(|found| found.quota.as_mut()) {
            quota.gives_back(now);
        }
    }

    /// Five characters, as the server draws them.
    fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.generated += 1;
        let mut left = self.generated.wrapping_mul(7_919);
        let mut next = || {
            let place = usize::try_from(left % 27).unwrap_or_default();
            left /= 27;
            char::from(ALPHABET.get(place).copied().unwrap_or(b'b'))
        };
        (0..5).map(|_| next()).collect()
    }
}

/// What an update cannot change, and what it leaves as it is.
fn keep(old: &Object, new: &mut Object, write: &Write<'_>) {
    let (before, after) = (&old.metadata, &mut new.metadata);
    after.uid.clone_from(&before.uid);
    after.creation_timestamp.clone_from(&before.creation_timestamp);
    after.deletion_timestamp.clone_from(&before.deletion_timestamp);
    after.deletion_grace_period_seconds = before.deletion_grace_period_seconds;
    after.generate_name.clone_from(&before.generate_name);
    let ends = after.managed_fields.as_ref().is_some_and(Vec::is_empty);
    new.metadata.managed_fields = (!ends && before.managed_fields.is_some())
        .then(|| vec![new.managed_by(write.resource, &write.manager(), &write.time())]);
}

fn check(conditions: &Preconditions, resource: Resource, old: &Object) -> Result<(), Response> {
    let metadata = &old.metadata;
    if let Some(uid) = conditions.uid.as_ref().filter(|uid| **uid != metadata.uid) {
        let is = &metadata.uid;
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({is}). The object might have been \
             deleted and then recreated"
        );
        return Err(status::delete_conflict(resource, &metadata.name, &why));
    }
    let version = conditions.resource_version.as_ref();
    if let Some(version) = version.filter(|version| **version != metadata.resource_version) {
        let is = &metadata.resource_version;
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({is}). \
             The object might have been modified"
        );
        return Err(status::delete_conflict(resource, &metadata.name, &why));
    }
    Ok(())
}

fn wrong_uid(write: &Write<'_>, name: &str, sent: &str, is: &str) -> Response {
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}/{}/{name}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {sent}, UID in object meta: {is}",
        write.resource.plural(),
        write.namespace
    );
    status::conflict(write.resource, name, &why)
}

fn no_version(resource: Resource, name: &str) -> Response {
    let why = "Invalid value: 0: must be specified for an update";
    status::invalid_resource(resource, name, Cause::new("metadata.resourceVersion", "FieldValueInvalid", why))
}

/// A request's body as JSON: refused when it is too long or says that it is something else; the inner error is a body
/// that is no JSON.
fn json(request: &Request) -> Result<Result<Value, String>, Response> {
    let content_type = request.value("content-type").unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    if !matches!(media.as_str(), "" | "application/json") {
        let message = "the body of the request was in an unknown format - accepted media types include: \
                       application/json, application/yaml, application/vnd.kubernetes.protobuf";
        return Err(status::failure(415, "UnsupportedMediaType", message, Value::Null));
    }
    if request.body.len() > MAX_BODY {
        let message = format!("Request entity too large: limit is {MAX_BODY}");
        let refusal = status::failure(413, "RequestEntityTooLarge", &message, Value::Null);
        return Err(refusal.header("connection", "close"));
    }
    if request.body.is_empty() {
        return Ok(Err("unexpected end of JSON input".to_owned()));
    }
    let read = serde_json::from_slice::<Value>(&request.body);
    Ok(read.map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input".to_owned(),
        _ => error.to_string(),
    }))
}
