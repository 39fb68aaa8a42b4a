//! A small blocking HTTP/1.1 client that sends exactly the bytes it is given.
//!
//! Libraries normalise paths, refuse header values that are not UTF-8 and merge duplicates, which is what these tests need.

mod http2;
mod receive;

pub use http2::{Http2, Http2Answer};
pub use receive::{Head, Response, ResponseBody};

use anyhow::{Context, Result};
use base64::Engine;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read or write may be silent, unless [`Connection::timeout`] says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// One request. Method, target, header names and values are bytes and go out as they are.
///
/// Only `Host`, unless given, and the body's framing headers are added.
#[derive(Debug, Clone)]
pub struct Request {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    /// No body and no `content-length`.
    None,
    Sized(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

impl Request {
    /// A request without a body.
    pub fn new(method: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Request {
        Request {
            method: method.as_ref().to_vec(),
            target: target.as_ref().to_vec(),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// GET.
    pub fn get(target: impl AsRef<[u8]>) -> Request {
        Request::new("GET", target)
    }

    /// POST with an empty body and `content-length: 0`, as Azure DevOps sends one.
    pub fn post(target: impl AsRef<[u8]>) -> Request {
        Request::new("POST", target).body("")
    }

    /// One more header; the same name may come again.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// `Authorization: Basic …`
    pub fn basic(self, user: &str, password: &str) -> Request {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", format!("Basic {credentials}"))
    }

    /// `Authorization: Bearer …`
    pub fn bearer(self, token: &str) -> Request {
        self.header("Authorization", format!("Bearer {token}"))
    }

    /// A body with `content-length`.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Request {
        self.body = Body::Sized(body.as_ref().to_vec());
        self
    }

    /// A JSON body with its `Content-Type`.
    pub fn json(self, body: &Value) -> Request {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    /// A body in exactly these chunks, each written by itself; none of them means an empty chunked body.
    pub fn chunks<C: AsRef<[u8]>>(mut self, chunks: impl IntoIterator<Item = C>) -> Request {
        let chunks = chunks.into_iter().map(|chunk| chunk.as_ref().to_vec());
        self.body = Body::Chunked(chunks.filter(|chunk| !chunk.is_empty()).collect());
        self
    }

    /// Sends it over a connection of its own and reads the answer to its end.
    pub fn send(&self, address: SocketAddr) -> Result<Response> {
        Connection::open(address)?.send(self)
    }

    /// Request line and headers as they go out, to the empty line.
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        let mut line = |name: &[u8], value: &[u8]| bytes.extend([name, b": ", value, b"\r\n"].concat());
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")) {
            line(b"Host", b"testrelay.example");
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        match &self.body {
            Body::None => {}
            Body::Sized(body) => line(b"Content-Length", body.len().to_string().as_bytes()),
            Body::Chunked(_) => line(b"Transfer-Encoding", b"chunked"),
        }
        bytes.extend(b"\r\n");
        bytes
    }
}

/// A connection that carries one request after another.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `address`.
    pub fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Connection { stream: BufReader::with_capacity(64 * 1024, stream) }.timeout(TIMEOUT)
    }

    /// How long one read or write may be silent.
    pub fn timeout(self, timeout: Duration) -> Result<Connection> {
        self.stream.get_ref().set_read_timeout(Some(timeout))?;
        self.stream.get_ref().set_write_timeout(Some(timeout))?;
        Ok(self)
    }

    /// Sends a request and reads the answer to its end.
    pub fn send(&mut self, request: &Request) -> Result<Response> {
        let (head, mut body) = self.start(request)?;
        Ok(Response { status: head.status, headers: head.headers, body: body.read_all()? })
    }

    /// Sends a request and reads the head of the answer; the body is read as it comes.
    pub fn start(&mut self, request: &Request) -> Result<(Head, ResponseBody<'_>)> {
        // An answer may come, and the connection end, before the whole body was taken (413): read it in any case.
        let sent = self.send_only(request);
        match self.receive(&request.method) {
            Ok(answer) => Ok(answer),
            Err(error) => Err(match sent {
                Ok(()) => error,
                Err(sent) => error.context(format!("after the request could not be sent: {sent:#}")),
            }),
        }
    }

    /// Sends a request and does not wait for the answer.
    pub fn send_only(&mut self, request: &Request) -> Result<()> {
        self.write(&request.head())?;
        match &request.body {
            Body::None => Ok(()),
            Body::Sized(body) => self.write(body),
            Body::Chunked(chunks) => {
                for chunk in chunks {
                    let length = format!("{:x}\r\n", chunk.len());
                    self.write(&[length.as_bytes(), chunk, b"\r\n"].concat())?;
                }
                self.write(b"0\r\n\r\n")
            }
        }
    }

    /// Sends any bytes: half a request, or something that is not HTTP.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("sending")
    }

    /// Waits until an answer begins or the connection ends; false: neither happened in this time.
    pub fn is_answered_within(&mut self, time: Duration) -> Result<bool> {
        let usual = self.stream.get_ref().read_timeout()?;
        self.stream.get_ref().set_read_timeout(Some(time.max(Duration::from_millis(1))))?;
        let begun = self.stream.fill_buf().map(|_| ());
        self.stream.get_ref().set_read_timeout(usual)?;
        match begun {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            _ => Ok(true),
        }
    }

    /// Reads the head of the next answer; `method` is that of its request, since the answer to HEAD has no body.
    pub fn receive(&mut self, method: impl AsRef<[u8]>) -> Result<(Head, ResponseBody<'_>)> {
        receive::receive(&mut self.stream, method.as_ref() == b"HEAD")
    }

    /// Closes both directions at once, as a client does that goes away.
    pub fn close(self) -> Result<()> {
        Ok(self.stream.get_ref().shutdown(Shutdown::Both)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_out_byte_for_byte() {
        let request = Request::get(b"/a%2Fb//..;\xff?q")
            .header("Host", "h")
            .header("X", b"\xfe")
            .header("X", "again")
            .header("Authorization", "");
        assert_eq!(
            request.head(),
            b"GET /a%2Fb//..;\xff?q HTTP/1.1\r\nHost: h\r\nX: \xfe\r\nX: again\r\nAuthorization: \r\n\r\n"
        );
    }

    #[test]
    fn a_post_without_a_body_says_so() {
        let head = String::from_utf8(Request::post("/").basic("u", "p").head()).unwrap();
        assert!(head.ends_with("Authorization: Basic dTpw\r\nContent-Length: 0\r\n\r\n"), "{head}");
    }
}
