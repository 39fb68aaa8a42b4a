//! Serves a state machine on a real socket: HTTP/1.1, plain or under TLS, on this machine only.

mod body;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::http::{Reply, Request, Response, Service};
use crate::tls::Identity;
use body::Steps;

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
            tokio::time::sleep(Duration::from_millis(10)).await;
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
) -> Result<hyper::Response<Steps>> {
    let is_head = request.method() == Method::HEAD;
    let request = plain(request, connection).await?;
    let mut reply = {
        let mut service = service.lock().unwrap_or_else(PoisonError::into_inner);
        service.handle(unix_millis(), &request)
    };
    loop {
        reply = match reply {
            Reply::After { millis, reply } => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                *reply
            }
            // An error of the service lets hyper close the connection without a byte.
            Reply::Reset => anyhow::bail!("reset"),
            Reply::Answer(response) if is_head => {
                return head(response.without_body(), Steps::whole(vec![], true));
            }
            Reply::Answer(response) => {
                let steps = Steps::whole(response.body.clone(), response.is_chunked());
                return head(response, steps);
            }
            Reply::Truncated { response, .. } | Reply::Dribble { response, .. } if is_head => {
                Reply::Answer(response)
            }
            Reply::Truncated { response, bytes } => {
                let steps = Steps::truncated(response.body.clone(), bytes, response.is_chunked());
                return head(response, steps);
            }
            Reply::Dribble { response, chunk, millis } => {
                let steps = Steps::dribble(response.body.clone(), chunk, millis, response.is_chunked());
                return head(response, steps);
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

/// Status and headers; the framing headers follow from the body, except the length that HEAD is told.
fn head(response: Response, body: Steps) -> Result<hyper::Response<Steps>> {
    let mut answer = hyper::Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(response.status)?;
    for (name, value) in response.headers {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        if name != TRANSFER_ENCODING && (name != CONTENT_LENGTH || response.body.is_empty()) {
            answer.headers_mut().append(name, HeaderValue::from_bytes(&value)?);
        }
    }
    Ok(answer)
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
