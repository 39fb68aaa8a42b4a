//! Reading an answer: head, then a body by length, in chunks, or to the end of the connection.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;

/// Status and headers of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// 200 and so on. Interim answers (1xx) are passed over.
    pub status: u16,
    /// In their order, names as they came.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// 200 and so on.
    pub status: u16,
    /// In their order, names as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Without the framing.
    pub body: Vec<u8>,
}

impl Head {
    /// The first header of this name, in any case, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

impl Response {
    /// The first header of this name, in any case, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. The error shows status and body.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("the answer {} is not JSON: {}", self.status, self.text()))
    }
}

/// The body of an answer, read as it comes.
#[derive(Debug)]
pub struct ResponseBody<'a> {
    stream: &'a mut BufReader<TcpStream>,
    /// The number of bytes still to come, of the current chunk if there are chunks; `None`: to the end of the connection.
    left: Option<u64>,
    /// Whether another chunk comes.
    has_chunks: bool,
}

impl ResponseBody<'_> {
    /// All that is still to come.
    pub fn read_all(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read_to_end(&mut body)
            .with_context(|| format!("the answer broke off after {} bytes", body.len()))?;
        Ok(body)
    }
}

impl Read for ResponseBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_chunks && self.left == Some(0) {
            self.left = Some(chunk_length(self.stream)?);
            self.has_chunks = self.left != Some(0);
            // Trailers, up to an empty line.
            while !self.has_chunks && !line(self.stream)?.is_empty() {}
        }
        let Some(left) = &mut self.left else { return self.stream.read(buffer) };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        // `BufReader` waits for more even where nothing is asked of it.
        if most == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(ended("the connection ended within the body"));
        }
        *left -= read as u64;
        if *left == 0 && self.has_chunks && !line(self.stream)?.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a chunk is longer than it says"));
        }
        Ok(read)
    }
}

pub(super) fn receive(
    stream: &mut BufReader<TcpStream>,
    to_head_request: bool,
) -> Result<(Head, ResponseBody<'_>)> {
    let head = loop {
        let head = read_head(stream)?;
        if head.status >= 200 {
            break head;
        }
    };
    let coding = head.header("transfer-encoding");
    let (left, has_chunks) = match (coding, head.header("content-length")) {
        _ if to_head_request || matches!(head.status, 204 | 304) => (Some(0), false),
        (Some(coding), _) => {
            ensure!(coding.eq_ignore_ascii_case("chunked"), "the answer's transfer-encoding is {coding}");
            (Some(0), true)
        }
        (None, Some(length)) => {
            let said = length.parse().with_context(|| format!("the answer's content-length is {length}"))?;
            (Some(said), false)
        }
        (None, None) => (None, false),
    };
    Ok((head, ResponseBody { stream, left, has_chunks }))
}

fn read_head(stream: &mut BufReader<TcpStream>) -> Result<Head> {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_until(b'\n', &mut bytes).context("waiting for an answer")?;
        if read == 0 {
            let what = if bytes.is_empty() { "before an answer came" } else { "within the answer's head" };
            return Err(ended(&format!("the connection ended {what}")).into());
        }
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
        ensure!(bytes.len() < 1 << 20, "the answer's head is longer than 1 MiB");
    }
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Response::new(&mut headers);
    let status = parsed.parse(&bytes).context("the answer's head")?;
    let (httparse::Status::Complete(_), Some(status)) = (status, parsed.code) else {
        bail!("the answer's head is not complete");
    };
    let headers =
        parsed.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
    Ok(Head { status, headers })
}

fn chunk_length(stream: &mut BufReader<TcpStream>) -> io::Result<u64> {
    let line = line(stream)?;
    match httparse::parse_chunk_size(format!("{line}\r\n").as_bytes()) {
        Ok(httparse::Status::Complete((_, length))) => Ok(length),
        _ => Err(io::Error::new(ErrorKind::InvalidData, format!("{line:?} is not the length of a chunk"))),
    }
}

/// One line without its end.
fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(ended("the connection ended within the body")),
    }
}

fn ended(what: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, what)
}

fn find<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use crate::client::{Connection, Request};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    /// A server that gives one connection these bytes and ends it.
    fn saying(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        address
    }

    #[test]
    fn a_body_is_read_by_length_in_chunks_or_to_the_end() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let response = Request::get("/").send(saying(answer)).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"));
        }
    }

    #[test]
    fn two_answers_come_over_one_connection() {
        let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\nX: y\r\n\r\n";
        let mut connection = Connection::open(saying(twice)).unwrap();
        assert_eq!(connection.send(&Request::get("/")).unwrap().json().unwrap(), serde_json::json!({}));
        let (head, mut body) = connection.receive("GET").unwrap();
        assert_eq!((head.status, head.header("x")), (204, Some("y")));
        assert_eq!(body.read_all().unwrap(), b"");
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            let error = format!("{:#}", Request::get("/").send(saying(answer)).unwrap_err());
            assert!(error.contains("the connection ended"), "{error}");
        }
    }
}
