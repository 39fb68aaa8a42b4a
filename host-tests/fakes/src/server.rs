//! Serves a state machine on a real socket: HTTP/1.1, plain or under TLS, on this machine only.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use http_body_util::channel::{Channel, SendError, Sender};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::http::{Reply, Request, Response, Service};
use crate::tls::Identity;

/// Long enough for hyper to write out what it has before the connection breaks.
const FLUSH: Duration = Duration::from_millis(30);

/// The whole of it at once, or in the pieces in which a task sends it.
type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// A running server. Dropping it closes its connections and ends its thread.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves plain HTTP/1.1 on a free port of 127.0.0.1.
    pub fn start<S: Service + Send + 'static>(service: Arc<Mutex<S>>) -> Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), service)
    }

    /// Serves plain HTTP/1.1 on a chosen address, for a server that comes back where it was.
    pub fn start_on<S: Service + Send + 'static>(
        address: SocketAddr,
        service: Arc<Mutex<S>>,
    ) -> Result<Self> {
        Self::run(address, service, None)
    }

    /// Serves HTTP/1.1 under TLS on a free port of 127.0.0.1.
    pub fn start_tls<S: Service + Send + 'static>(
        service: Arc<Mutex<S>>,
        identity: &Identity,
    ) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
        Self::run((Ipv4Addr::LOCALHOST, 0).into(), service, Some(acceptor))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    fn run<S: Service + Send + 'static>(
        address: SocketAddr,
        service: Arc<Mutex<S>>,
        tls: Option<TlsAcceptor>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let thread = std::thread::Builder::new().name(format!("fake {address}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, service, tls) => {}
                    _ = stopped => {}
                }
            });
            // Dropping the runtime here drops the tasks of all connections.
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error; it must not become a second one here.
            let _ = thread.join();
        }
    }
}

async fn accept<S: Service + Send + 'static>(
    listener: tokio::net::TcpListener,
    service: Arc<Mutex<S>>,
    tls: Option<TlsAcceptor>,
) {
    let mut connection = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        connection += 1;
        let number: u64 = connection;
        let (service, tls) = (Arc::clone(&service), tls.clone());
        // A dribbled body must leave in the pieces it is written in.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            match tls {
                None => serve(stream, service, number).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, service, number).await;
                    }
                }
            }
        });
    }
}

async fn serve<S, T>(stream: T, service: Arc<Mutex<S>>, connection: u64)
where
    S: Service + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let handler = service_fn(|request| answer(request, Arc::clone(&service), connection));
    // An error is a client that disconnected, or a fault that the service asked for.
    let _ = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
}

async fn answer<S: Service>(
    request: hyper::Request<Incoming>,
    service: Arc<Mutex<S>>,
    connection: u64,
) -> Result<hyper::Response<Body>> {
    let is_head = request.method() == Method::HEAD;
    let request = plain(request, connection).await?;
    let mut reply = {
        let mut service = service.lock().unwrap_or_else(PoisonError::into_inner);
        service.handle(unix_millis(), &request)
    };
    loop {
        reply = match reply {
            Reply::After { millis, reply } => {
                sleep(Duration::from_millis(millis)).await;
                *reply
            }
            // An error of the service lets hyper close the connection without a byte.
            Reply::Reset => anyhow::bail!("reset"),
            Reply::Truncated { response, .. } | Reply::Dribble { response, .. } if is_head => response.into(),
            Reply::Answer(response) if is_head => return head(&response.without_body(), whole(Vec::new())),
            Reply::Answer(response) => return head(&response, whole(response.body.clone())),
            Reply::Truncated { response, bytes } => {
                return in_pieces(response, move |mut sender, mut body| async move {
                    body.truncate(bytes);
                    sender.send_data(body).await?;
                    sleep(FLUSH).await;
                    sender.abort(io::ErrorKind::ConnectionReset.into());
                    Ok(())
                });
            }
            Reply::Dribble { response, chunk, millis } => {
                return in_pieces(response, move |mut sender, mut body| async move {
                    while !body.is_empty() {
                        sender.send_data(body.split_to(chunk.clamp(1, body.len()))).await?;
                        sleep(Duration::from_millis(millis)).await;
                    }
                    Ok(())
                });
            }
        };
    }
}

async fn plain(request: hyper::Request<Incoming>, connection: u64) -> Result<Request> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    Ok(Request {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: headers.collect(),
        body: body.collect().await?.to_bytes().to_vec(),
        connection,
    })
}

fn whole(body: Vec<u8>) -> Body {
    Either::Left(Full::new(body.into()))
}

/// An answer whose body a task of its own sends. A client that goes away ends the task.
fn in_pieces<F>(
    response: Response,
    send: impl FnOnce(Sender<Bytes, io::Error>, Bytes) -> F,
) -> Result<hyper::Response<Body>>
where
    F: Future<Output = Result<(), SendError>> + Send + 'static,
{
    let (sender, body) = Channel::new(1);
    let answer = head(&response.clone().without_body(), Either::Right(body))?;
    tokio::spawn(send(sender, response.body.into()));
    Ok(answer)
}

/// Status and headers. Of a body that is there, hyper knows the length.
fn head(response: &Response, body: Body) -> Result<hyper::Response<Body>> {
    let mut answer = hyper::Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(response.status)?;
    for (name, value) in &response.headers {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        if name != CONTENT_LENGTH || response.body.is_empty() {
            answer.headers_mut().append(name, HeaderValue::from_bytes(value)?);
        }
    }
    Ok(answer)
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
