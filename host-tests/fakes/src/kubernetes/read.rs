//! GET and LIST: versions, pages, selectors.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Kubernetes;
use super::call::{Options, Resource};
use super::selector::Selector;
use super::status::{self, Cause, bad_request};
use super::view::View;
use crate::http::{Reply, Response};

/// So long the server waits for a version that is not there yet, in milliseconds.
const WAIT_FOR_VERSION: u64 = 3000;

/// Where a list goes on; the token is this as base64 of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// The version of the list's first page; -1: as of now.
    rv: i64,
    /// The last name that was listed, a NUL behind it; a slash may be before it.
    start: String,
}

impl Continue {
    fn token(version: i64, last: &str) -> String {
        let token = Continue { v: "meta.k8s.io/v1".into(), rv: version, start: format!("{last}\0") };
        URL_SAFE_NO_PAD.encode(json!(token).to_string())
    }

    fn read(token: &str) -> Result<Continue, Response> {
        let wrong =
            |why: &str| bad_request(&format!("invalid continue token: continue key is not valid: {why}"));
        let decoded =
            URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|error| wrong(&error.to_string()))?;
        let read: Continue =
            serde_json::from_slice(&decoded).map_err(|_| wrong("incorrect encoded continue token"))?;
        if read.v != "meta.k8s.io/v1" {
            return Err(wrong("server does not recognize this encoded version"));
        }
        Ok(read)
    }

    fn name(&self) -> &str {
        self.start.trim_start_matches('/')
    }
}

/// Which state a read wants.
enum Wanted {
    Newest,
    /// `resourceVersion=0`: from the cache, whatever age.
    Any,
    /// Not older than this.
    NotOlder(u64),
}

impl Wanted {
    fn of(options: &Options) -> Result<Wanted, Response> {
        let Some(text) = options.get("resourceVersion") else { return Ok(Wanted::Newest) };
        let version = text.parse().map_err(|_| {
            let why =
                format!("Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax");
            bad_request(&format!("invalid resource version: resourceVersion: {why}"))
        })?;
        Ok(if version == 0 { Wanted::Any } else { Wanted::NotOlder(version) })
    }
}

/// The part of a list that is asked for.
struct Page {
    version: u64,
    /// What the list says of its version.
    from: String,
    limit: Option<usize>,
    selector: Selector,
}

impl Kubernetes {
    pub(super) fn get(
        &self,
        options: &Options,
        view: View,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Reply {
        match Wanted::of(options) {
            Err(refusal) => return refusal.into(),
            Ok(Wanted::NotOlder(version)) if version > self.store.version() => {
                return self.too_new(version);
            }
            Ok(_) => {}
        }
        match self.store.get(&(resource, namespace.to_owned(), name.to_owned())) {
            Some(object) => view.object(200, resource, object).into(),
            None => status::not_found(resource, name).into(),
        }
    }

    /// `forgets`: the state of the list's first page is forgotten.
    pub(super) fn list(
        &self,
        options: &Options,
        view: View,
        resource: Resource,
        namespace: &str,
        forgets: bool,
    ) -> Reply {
        let page = match self.page(options, forgets) {
            Ok(Ok(page)) => page,
            Ok(Err(too_new)) => return self.too_new(too_new),
            Err(refusal) => return refusal.into(),
        };
        let mut objects = self.store.at(resource, namespace, page.version, &page.from).peekable();
        let mut listed = Vec::new();
        while objects.peek().is_some() && page.limit.is_none_or(|limit| listed.len() < limit) {
            listed.extend(objects.next().filter(|object| page.selector.fits(object)).map(|object| &**object));
        }
        let mut metadata = json!({"resourceVersion": page.version.to_string()});
        // More may follow although nothing of it fits the selector: then the next page is empty.
        if let (Some(last), true) = (listed.last(), objects.peek().is_some()) {
            let version = i64::try_from(page.version).unwrap_or(i64::MAX);
            metadata["continue"] = Continue::token(version, &last.metadata.name).into();
            if page.selector.is_empty() {
                metadata["remainingItemCount"] = objects.count().into();
            }
        }
        view.list(resource, metadata, listed.into_iter()).into()
    }

    /// What a list's options ask for. The inner error is a version that is not there yet.
    fn page(&self, options: &Options, forgets: bool) -> Result<Result<Page, u64>, Response> {
        let limit = options.get("limit").map(str::parse::<i64>).transpose().map_err(|_| {
            let text = options.get("limit").unwrap_or_default();
            bad_request(&format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        })?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let selector = Selector::parse(options.get("labelSelector"), options.get("fieldSelector"));
        let selector = selector.map_err(|why| bad_request(&why))?;
        let wanted = Wanted::of(options)?;
        let is_exact = match options.get("resourceVersionMatch") {
            Some(_) if matches!(wanted, Wanted::Newest) => {
                let why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
                let cause = Cause::new("resourceVersionMatch", "FieldValueForbidden", why);
                return Err(status::invalid_options(cause));
            }
            given => given == Some("Exact"),
        };
        let now = self.store.version();
        let mut page = Page { version: now, from: String::new(), limit, selector };
        match (options.get("continue"), wanted) {
            (Some(token), Wanted::Newest) => {
                let token = Continue::read(token)?;
                token.name().clone_into(&mut page.from);
                if let Ok(version) = u64::try_from(token.rv) {
                    if forgets || version < self.store.compacted() {
                        let go_on = Continue::token(-1, token.name().trim_end_matches('\0'));
                        return Err(status::continue_expired(&go_on));
                    }
                    page.version = version;
                }
            }
            (Some(_), _) => {
                return Err(bad_request("specifying resource version is not allowed when using continue"));
            }
            (None, Wanted::Newest) => {}
            (None, Wanted::Any) => page.limit = None,
            (None, Wanted::NotOlder(version)) if version > now => return Ok(Err(version)),
            (None, Wanted::NotOlder(version)) if is_exact => {
                if version < self.store.compacted() {
                    let message = "The resourceVersion for the provided list is too old.";
                    return Err(status::failure(410, "Expired", message, Value::Null));
                }
                page.version = version;
            }
            (None, Wanted::NotOlder(_)) => {}
        }
        Ok(Ok(page))
    }

    fn too_new(&self, wanted: u64) -> Reply {
        let refusal = status::version_of_the_future(wanted, self.store.version());
        Reply::After { millis: WAIT_FOR_VERSION, reply: Box::new(refusal.into()) }
    }
}
