//! A small HTTP/2 client that controls each frame, so that a body can end with trailers, or not at all.
//!
//! It starts without an upgrade ("prior knowledge", RFC 9113 section 3.3), sends headers without compression, and reads
//! only the status and the body of an answer.

use super::Request;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What every peer must take (RFC 9113 section 4.2).
const MAX_FRAME: usize = 16_384;
const FIRST_WINDOW: i64 = 65_535;

/// A connection with any number of requests under way.
#[derive(Debug)]
pub struct Http2 {
    socket: TcpStream,
    next: u32,
    window: i64,
    window_of_each: i64,
    exchanges: BTreeMap<u32, Exchange>,
}

/// One request and what has arrived of its answer.
#[derive(Debug, Default)]
struct Exchange {
    window: i64,
    status: Option<u16>,
    body: Vec<u8>,
    has_ended: bool,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Answer {
    /// The status; `None` where the stream was reset before one.
    pub status: Option<u16>,
    /// The body as text.
    pub text: String,
}

impl Http2 {
    /// Connects, with the largest windows for answers.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(address: SocketAddr) -> Result<Http2> {
        let mut socket = TcpStream::connect_timeout(&address, super::TIMEOUT)
            .with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut connection = Http2 {
            socket,
            next: 1,
            window: FIRST_WINDOW,
            window_of_each: FIRST_WINDOW,
            exchanges: BTreeMap::new(),
        };
        // No table for compression, so that each status can be read by itself.
        connection.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])?;
        connection.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes())?;
        Ok(connection)
    }

    /// Begins a request; of `request` the method, the target and the headers go out. Its number.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn begin(&mut self, request: &Request, is_whole: bool) -> Result<u32> {
        let mut block = Vec::new();
        for (name, value) in [
            (&b":method"[..], &request.method[..]),
            (b":scheme", b"http"),
            (b":authority", b"testrelay.example"),
            (b":path", &request.target),
        ] {
            literal(&mut block, name, value);
        }
        for (name, value) in &request.headers {
            literal(&mut block, &name.to_ascii_lowercase(), value);
        }
        ensure!(block.len() <= MAX_FRAME, "headers of {} bytes", block.len());
        let stream = self.next;
        self.next += 2;
        self.exchanges.insert(stream, Exchange { window: self.window_of_each, ..Exchange::default() });
        let flags = END_HEADERS | if is_whole { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block)?;
        Ok(stream)
    }

    /// Sends a piece of a body, waiting for room where there is none. What is answered meanwhile is not sent to its end.
    ///
    /// # Errors
    /// The connection is broken, or there is no room for long.
    pub fn data(&mut self, stream: u32, mut piece: &[u8], is_last: bool) -> Result<()> {
        loop {
            self.read_all()?;
            let exchange = self.exchanges.get(&stream).context("no such request")?;
            if exchange.has_ended {
                return Ok(());
            }
            let room = usize::try_from(exchange.window.min(self.window)).unwrap_or(0);
            let (now, later) = piece.split_at(piece.len().min(room).min(MAX_FRAME));
            if now.is_empty() && !piece.is_empty() {
                self.wait(Duration::from_millis(1), super::TIMEOUT)?;
                continue;
            }
            let flags = if is_last && later.is_empty() { END_STREAM } else { 0 };
            self.frame(DATA, flags, stream, now)?;
            let length = i64::try_from(now.len())?;
            self.window -= length;
            if let Some(exchange) = self.exchanges.get_mut(&stream) {
                exchange.window -= length;
            }
            piece = later;
            if piece.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends a body with one trailer.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn trailers(&mut self, stream: u32) -> Result<()> {
        let mut block = Vec::new();
        literal(&mut block, b"x-trailer", b"y");
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    }

    /// Cancels a request.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn reset(&mut self, stream: u32) -> Result<()> {
        const CANCEL: u32 = 8;
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
    }

    /// The answer, if it is complete.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn answered(&mut self, stream: u32) -> Result<Option<Http2Answer>> {
        self.read_all()?;
        let exchange = self.exchanges.get(&stream).context("no such request")?;
        Ok(exchange.has_ended.then(|| Http2Answer {
            status: exchange.status,
            text: String::from_utf8_lossy(&exchange.body).into_owned(),
        }))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The connection is broken, or nothing comes.
    pub fn answer(&mut self, stream: u32) -> Result<Http2Answer> {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.answered(stream)? {
                return Ok(answer);
            }
            ensure!(began.elapsed() < 2 * super::TIMEOUT, "no answer to request {stream}");
            self.wait(Duration::from_millis(20), super::TIMEOUT * 2)?;
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.socket.write_all(&[&head, payload].concat()).context("sending a frame")
    }

    /// Reads what has arrived.
    fn read_all(&mut self) -> Result<()> {
        while self.has_arrived(None)? {
            self.read_frame()?;
        }
        Ok(())
    }

    fn wait(&mut self, first: Duration, longest: Duration) -> Result<()> {
        let began = Instant::now();
        while !self.has_arrived(Some(first))? {
            ensure!(began.elapsed() < longest, "nothing comes");
        }
        self.read_frame()
    }

    /// Whether anything has arrived, or does within a time.
    fn has_arrived(&self, within: Option<Duration>) -> Result<bool> {
        self.socket.set_nonblocking(within.is_none())?;
        self.socket.set_read_timeout(within)?;
        let arrived = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(super::TIMEOUT))?;
        match arrived {
            Ok(0) => bail!("the connection has ended"),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error).context("reading"),
        }
    }

    fn read_frame(&mut self) -> Result<()> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).context("reading a frame")?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).context("reading a frame")?;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        match kind {
            SETTINGS if flags & ACK == 0 => {
                const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
                for setting in payload.chunks(6).filter(|setting| setting.starts_with(&INITIAL_WINDOW_SIZE)) {
                    let size = i64::from(number(&setting[2..]));
                    let more = size - std::mem::replace(&mut self.window_of_each, size);
                    self.exchanges.values_mut().for_each(|exchange| exchange.window += more);
                }
                self.frame(SETTINGS, ACK, 0, &[])?;
            }
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload)?,
            WINDOW_UPDATE if stream == 0 => self.window += i64::from(number(&payload)),
            GOAWAY => bail!("the connection is ended: {}", String::from_utf8_lossy(&payload[8..])),
            _ => {
                let Some(exchange) = self.exchanges.get_mut(&stream) else { return Ok(()) };
                match kind {
                    WINDOW_UPDATE => exchange.window += i64::from(number(&payload)),
                    HEADERS if exchange.status.is_none() => exchange.status = Some(status(&payload)?),
                    DATA => exchange.body.extend(payload),
                    RST_STREAM => exchange.has_ended = true,
                    _ => {}
                }
                exchange.has_ended |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            }
        }
        Ok(())
    }
}

/// A header without compression and without a place in a table (RFC 7541 section 6.2.2).
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            block.push(rest as u8);
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend(text);
    }
}

/// The status, which comes first: an entry of the static table, or a value of three digits beside its name.
fn status(block: &[u8]) -> Result<u16> {
    const IN_TABLE: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may come before.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20).context("no headers")?;
    let block = &block[start..];
    let first = block[0];
    if first & 0x80 != 0 {
        let place = usize::from(first & 0x7f).checked_sub(8);
        return place.and_then(|place| IN_TABLE.get(place)).copied().context("no status");
    }
    let (length, rest) = block[1..].split_first().context("no status")?;
    let value = rest.get(..usize::from(length & 0x7f)).context("a status without its end")?;
    let digits = if length & 0x80 == 0 { value.to_vec() } else { from_huffman(value) };
    String::from_utf8(digits)?.parse().context("a status that is no number")
}

/// Digits in the code of RFC 7541 appendix B: `0` to `2` have five bits, the others six.
fn from_huffman(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |all, bit| all << 1 | bit);
    let (mut digits, mut rest) = (Vec::new(), &bits[..]);
    loop {
        match (rest.get(..5).map(number), rest.get(..6).map(number)) {
            (Some(digit @ 0..=2), _) => {
                digits.push(b'0' + digit);
                rest = &rest[5..];
            }
            (_, Some(code @ 0x19..=0x1f)) => {
                digits.push(b'3' + code - 0x19);
                rest = &rest[6..];
            }
            _ => return digits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        assert_eq!(status(&[0x88]).unwrap(), 200);
        assert_eq!(status(&[0x20, 0x8d]).unwrap(), 404);
        assert_eq!(status(b"\x48\x03503").unwrap(), 503);
        // RFC 7541 C.6.1 (302) and C.6.2 (307).
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]).unwrap(), 302);
        assert_eq!(status(&[0x08, 0x83, 0x64, 0x0e, 0xff]).unwrap(), 307);
    }

    #[test]
    fn a_long_text_has_its_length_in_more_than_one_byte() {
        let mut block = Vec::new();
        literal(&mut block, b"a", &[b'x'; 1_337]);
        assert_eq!(block[..5], [0, 1, b'a', 127, 0xba]);
        assert_eq!((block[5], block.len()), (0x09, 6 + 1_337));
    }
}
