//! The load: a closed loop of callers, each on a connection of its own, which sends its next request when the one before
//! has been answered. One thread for all of them.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::CONTENT_LENGTH;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// A request without a body.
pub type Request = hyper::Request<Empty<Bytes>>;

/// What is asked of every answer besides the status 200: its length, or how it begins.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// So many bytes.
    Length(u64),
    /// These are among the first.
    Holds(&'static str),
    /// Nothing, not even the status: the answers with another one are counted.
    Counted,
}

/// What came of a series of requests.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// From the first request, over connections that stood already, to the end of the last answer.
    pub took: Duration,
    /// How long each request waited for the end of its answer, shortest first.
    pub latencies: Vec<Duration>,
    /// The bodies' bytes.
    pub bytes: u64,
    /// The answers with another status than 200, where they are counted.
    pub refused: usize,
}

impl Sent {
    /// Adds a later series.
    pub fn add(&mut self, later: Sent) {
        self.took += later.took;
        self.latencies.extend(later.latencies);
        self.latencies.sort_unstable();
        self.bytes += later.bytes;
        self.refused += later.refused;
    }

    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// Millions of bytes per second.
    pub fn throughput(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }

    /// The time, in milliseconds, within which `percent` of the requests were answered; not a number without any.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        let found = self.latencies.get(rank.saturating_sub(1));
        found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// A request of the harness as the load sends it: the same head, byte for byte but for the order of what frames it.
///
/// # Errors
/// It is none that HTTP allows.
pub fn request(request: &host_tests::Request) -> Result<Request> {
    let head = request.head();
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(&head).context("a request of the bench")?;
    let builder = hyper::Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default());
    // hyper writes the length itself.
    let headers =
        parsed.headers.iter().filter(|header| !header.name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()));
    let builder = headers.fold(builder, |builder, header| builder.header(header.name, header.value));
    builder.body(Empty::new()).context("a request of the bench")
}

/// Sends all requests over this many connections and reads the answers to their ends.
///
/// # Errors
/// A connection failed, or an answer was not the expected one.
pub fn send(
    address: SocketAddr,
    connections: usize,
    requests: impl IntoIterator<Item = Request> + 'static,
    expected: Expected,
) -> Result<Sent> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(connect(address).await?);
        }
        let left = Rc::new(RefCell::new(requests.into_iter()));
        let began = Instant::now();
        let running: Vec<_> = callers
            .into_iter()
            .map(|caller| {
                let left = left.clone();
                tokio::task::spawn_local(call(caller, move || left.borrow_mut().next(), expected))
            })
            .collect();
        let mut sent = Sent::default();
        for caller in running {
            let own = caller.await.context("a caller has panicked")??;
            sent.latencies.extend(own.latencies);
            sent.bytes += own.bytes;
            sent.refused += own.refused;
        }
        sent.took = began.elapsed();
        sent.latencies.sort_unstable();
        Ok(sent)
    })
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let (caller, connection) = handshake(TokioIo::new(stream)).await?;
    // Its end is told to the caller as well.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(caller)
}

/// One caller: sends what `next` gives.
async fn call(
    mut caller: SendRequest<Empty<Bytes>>,
    next: impl Fn() -> Option<Request>,
    expected: Expected,
) -> Result<Sent> {
    let mut sent = Sent::default();
    while let Some(request) = next() {
        let began = Instant::now();
        caller.ready().await?;
        let mut answer = caller.send_request(request).await?;
        let (mut length, mut first) = (0, None);
        while let Some(frame) = answer.frame().await {
            if let Ok(data) = frame?.into_data() {
                length += data.len() as u64;
                first.get_or_insert(data);
            }
        }
        sent.latencies.push(began.elapsed());
        sent.bytes += length;
        let first = first.unwrap_or_default();
        let fits = match expected {
            Expected::Length(expected) => length == expected,
            Expected::Counted => {
                sent.refused += usize::from(answer.status() != 200);
                continue;
            }
            Expected::Holds(text) => first.windows(text.len()).any(|window| window == text.as_bytes()),
        };
        ensure!(
            fits && answer.status() == 200,
            "{expected:?} was expected, and the answer was {} with {length} bytes: {}",
            answer.status(),
            String::from_utf8_lossy(first.get(..first.len().min(300)).unwrap_or_default())
        );
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sent = |values: std::ops::RangeInclusive<u64>| Sent {
            took: Duration::from_secs(2),
            latencies: values.map(Duration::from_millis).collect(),
            bytes: 4_000_000,
            refused: 0,
        };
        let all = sent(1..=200);
        assert_eq!((all.percentile(50), all.percentile(99)), (100.0, 198.0));
        assert_eq!(sent(1..=1).percentile(99), 1.0);
        #[allow(clippy::reversed_empty_ranges)]
        let none = sent(1..=0);
        assert!(none.percentile(99).is_nan());
        assert_eq!((all.rate(), all.throughput()), (100.0, 2.0));
        let mut both = sent(101..=200);
        both.add(sent(1..=100));
        assert_eq!((both.percentile(50), both.rate(), both.bytes), (100.0, 50.0, 8_000_000));
    }

    #[test]
    fn a_request_of_the_harness_keeps_its_head() {
        let own = host_tests::Request::post("/a%252Fb?c").header("PlanId", "1").bearer("x");
        let sent = request(&own).unwrap();
        assert_eq!((sent.method().as_str(), sent.uri().to_string().as_str()), ("POST", "/a%252Fb?c"));
        assert_eq!(
            (&sent.headers()["planid"], &sent.headers()["authorization"]),
            (&"1".parse().unwrap(), &"Bearer x".parse().unwrap())
        );
        assert_eq!(sent.headers()["host"], "testrelay.example");
    }
}
