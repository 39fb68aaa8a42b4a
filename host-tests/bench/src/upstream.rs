//! A Testkube that costs next to nothing: it sends files of any length from one piece of memory, in chunks and without a
//! length, as Testkube does. Everything else is answered by the fake Testkube.

use crate::machine::Processors;
use anyhow::{Context, Result};
use bytes::Bytes;
use fakes::{Database, Reply, Request, Service, Status, Testkube, execution};
use host_tests::scene::{TAG_KEY, now_ms};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// A chunk of a file. Large, so that Envoy has little to do for each byte and the module's share is seen.
const PIECE: usize = 32 * 1024;

/// The tag of the only execution.
pub const TAG: &str = "shop-1";

/// How many files there are of each length.
pub const FILES: usize = 20;

/// The path of file `n` of this length at Testkube; `id` is the execution's.
pub fn own_path(id: &str, length: u64, n: usize) -> String {
    format!("/v1/test-workflow-executions/{id}/artifacts/results%252F{n}-{length}.bin")
}

/// The path of the same file by the tag.
pub fn path_by_tag(length: u64, n: usize) -> String {
    format!("/testrelay/v1/artifacts/{TAG}/results/{n}-{length}.bin")
}

/// The 8 bytes of a file at an offset that 8 divides: so every byte says where it belongs.
pub fn word(offset: u64) -> [u8; 8] {
    (offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

/// How a file's bytes come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The same piece again and again: costs nothing.
    Repeated,
    /// [`word`] after word.
    Numbered,
}

/// A running upstream. Dropping it closes its connections and ends its thread.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    id: String,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Listens on a free port of 127.0.0.1, with one execution that has passed and has files of these lengths.
    ///
    /// # Errors
    /// No port can be had, or its thread cannot be bound.
    pub fn start(processors: Option<&Processors>, lengths: &[u64], content: Content) -> Result<Upstream> {
        let mut testkube = Testkube::new(Database::Postgres);
        let mut passed = execution("shop-e2e").tag(TAG_KEY, TAG).at(now_ms() - 60_000, Status::Passed);
        for length in lengths {
            for n in 0..FILES {
                passed = passed.artifact(&format!("results/{n}-{length}.bin"), "elsewhere");
            }
        }
        let id = testkube.add(passed);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let processors = processors.cloned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let thread = std::thread::Builder::new().name("upstream".into()).spawn(move || {
            if let Some(Err(error)) = processors.map(|processors| processors.bind_load()) {
                eprintln!("the upstream is not bound to a processor: {error:#}");
            }
            LocalSet::new().block_on(&runtime, async {
                let accepting = accept(listener, Rc::new(RefCell::new(testkube)), content);
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Upstream { address, id, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The execution's id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error; it must not become a second one here.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, testkube: Rc<RefCell<Testkube>>, content: Content) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let testkube = testkube.clone();
        tokio::task::spawn_local(async move {
            let answer = service_fn(|request| {
                let answer = answer(&request, &testkube, content);
                async { Ok::<_, Infallible>(answer) }
            });
            // An error is an Envoy that went away.
            let _ = hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn answer(
    request: &hyper::Request<Incoming>,
    testkube: &RefCell<Testkube>,
    content: Content,
) -> hyper::Response<File> {
    let path = request.uri().path();
    if let Some(length) = length_in(path) {
        let mut answer = hyper::Response::new(File::new(length, content));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        return answer;
    }
    let target = request.uri().path_and_query().map_or(path, |target| target.as_str());
    let asked = Request::new(request.method().as_str(), target);
    let reply = testkube.borrow_mut().handle(now_ms(), &asked);
    let Reply::Answer(said) = reply else { unreachable!("no fault was asked for") };
    let mut answer = hyper::Response::builder().status(said.status);
    for (name, value) in said.headers.iter().filter(|(name, _)| name != "transfer-encoding") {
        answer = answer.header(name, value.as_slice());
    }
    answer.body(File::of(said.body.into())).unwrap_or_default()
}

/// The length that a file's name says, where the path leads to a file.
fn length_in(path: &str) -> Option<u64> {
    let (_, name) = path.split_once("/artifacts/")?;
    name.strip_prefix("results%252F")?.strip_suffix(".bin")?.split_once('-')?.1.parse().ok()
}

/// A body of any length; chunked, unless it is a whole piece of the fake Testkube.
#[derive(Debug)]
struct File {
    at: u64,
    length: u64,
    content: Content,
    piece: Bytes,
    whole: bool,
}

impl Default for File {
    fn default() -> File {
        File::of(Bytes::new())
    }
}

impl File {
    fn new(length: u64, content: Content) -> File {
        static PATTERN: [u8; PIECE] = [b'x'; PIECE];
        File { at: 0, length, content, piece: Bytes::from_static(&PATTERN), whole: false }
    }

    fn of(piece: Bytes) -> File {
        File { at: 0, length: piece.len() as u64, content: Content::Repeated, piece, whole: true }
    }
}

impl Body for File {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece_length = self.piece.len() as u64;
        let next = usize::try_from((self.length - self.at).min(piece_length)).unwrap_or(PIECE);
        if next == 0 {
            return Poll::Ready(None);
        }
        let data = match self.content {
            Content::Repeated => self.piece.slice(..next),
            Content::Numbered => {
                let mut bytes = vec![0; next];
                for (n, place) in bytes.chunks_mut(8).enumerate() {
                    let word = word(self.at + n as u64 * 8);
                    place.copy_from_slice(&word[..place.len()]);
                }
                bytes.into()
            }
        };
        self.at += next as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.length
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self.whole {
            true => hyper::body::SizeHint::with_exact(self.length - self.at),
            false => hyper::body::SizeHint::default(),
        }
    }
}
