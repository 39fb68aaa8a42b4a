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
    framing: Framing,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    /// The number of bytes still to come.
    Length(u64),
    /// The number of bytes still to come of the current chunk; 0: the next chunk's length comes next.
    Chunk(u64),
    ToTheEnd,
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
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = match self.framing {
            Framing::ToTheEnd => return self.stream.read(buffer),
            Framing::Length(0) => return Ok(0),
            Framing::Chunk(0) => {
                let length = chunk_length(self.stream)?;
                if length == 0 {
                    while !line(self.stream)?.is_empty() {}
                    self.framing = Framing::Length(0);
                    return Ok(0);
                }
                self.framing = Framing::Chunk(length);
                length
            }
            Framing::Length(left) | Framing::Chunk(left) => left,
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(ended("the connection ended within the body"));
        }
        let left = left - read as u64;
        match self.framing {
            Framing::Chunk(_) => {
                self.framing = Framing::Chunk(left);
                if left == 0 && !line(self.stream)?.is_empty() {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a chunk is longer than it says"));
                }
            }
            _ => self.framing = Framing::Length(left),
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
    let framing = if to_head_request || matches!(head.status, 204 | 304) {
        Framing::Length(0)
    } else if let Some(coding) = head.header("transfer-encoding") {
        ensure!(coding.eq_ignore_ascii_case("chunked"), "the answer's transfer-encoding is {coding}");
        Framing::Chunk(0)
    } else if let Some(length) = head.header("content-length") {
        Framing::Length(length.parse().with_context(|| format!("the answer's content-length is {length}"))?)
    } else {
        Framing::ToTheEnd
    };
    Ok((head, ResponseBody { stream, framing }))
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
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("{line:?} is not the length of a chunk")))
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
