//! Asks a server over TLS: a real one, or the fake behind its socket.

use std::time::Duration;

use anyhow::{Context, Result};
use fakes::{Request, Response};
use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Longer than the server lets anything last.
const PATIENCE: Duration = Duration::from_secs(70);
/// Of a body: a list of everything may be long.
const MAX_ANSWER: u64 = 64 << 20;

/// Somebody who asks one server, with a token or without.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

impl Client {
    /// `url` without a slash at its end; `authority`: the certificate to trust, as PEM.
    pub fn new(url: &str, authority: &str, token: Option<&str>) -> Result<Client> {
        let authority = Certificate::from_pem(authority.as_bytes()).context("the authority's certificate")?;
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority])).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Ok(Client { agent, url: url.to_owned(), token: token.map(str::to_owned) })
    }

    /// The same server, another token.
    pub fn with_token(&self, token: Option<&str>) -> Client {
        Client { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Sends a request; its token is added unless it has an `authorization` of its own. An error where no answer came.
    pub fn ask(&self, request: &Request) -> Result<Response> {
        let mut sent = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", self.url, request.target));
        for (name, value) in &request.headers {
            sent = sent.header(name, value.as_slice());
        }
        if let (Some(token), None) = (&self.token, request.value("authorization")) {
            sent = sent.header("authorization", format!("Bearer {token}"));
        }
        let answer = self.agent.run(sent.body(request.body.as_slice())?)?;
        let mut response = Response::new(answer.status().as_u16());
        for (name, value) in answer.headers() {
            response.headers.push((name.to_string(), value.as_bytes().to_vec()));
        }
        response.body = answer.into_body().with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(response)
    }
}
