//! Servers that are no product: what answering costs when nothing is decided.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::arguments::{FloorArguments, Shape};
use crate::node;
use crate::server::Server;
use crate::text::print;

/// The object that everybody serves.
pub(super) const OBJECT: [u8; 1024] = [b'w'; 1024];

/// Starts a floor; with TLS where a directory holds a certificate for it.
pub(super) async fn start(shape: Shape, processor: usize, tls: Option<&Path>) -> io::Result<Server> {
    let shape = if shape == Shape::Loop { "loop" } else { "hyper" };
    let mut arguments = vec!["floor".to_owned(), format!("--shape={shape}"), format!("--processor={processor}")];
    arguments.extend(tls.map(|directory| format!("--tls={}", directory.display())));
    Server::start(&arguments).await
}

/// Runs the floor in this process.
pub(super) fn run(arguments: &FloorArguments) -> ExitCode {
    let ran = node::prepare(Some(arguments.processor)).and_then(|runtime| runtime.block_on(listen(arguments)));
    match ran {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("the floor cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn listen(arguments: &FloorArguments) -> io::Result<Infallible> {
    let tls = arguments.tls.as_deref().map(acceptor).transpose()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    print(&format!("{}\n", listener.local_addr()?));
    let shape = arguments.shape;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, tls.clone(), shape));
    }
}

/// Answers the requests of one connection until it ends, however it does.
async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shape: Shape) {
    stream.set_nodelay(true).ok();
    match tls {
        None => answer(stream, shape).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                answer(stream, shape).await;
            }
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, shape: Shape) {
    match shape {
        // A client that leaves ends its connection and nothing else.
        Shape::Loop => bare(stream).await.unwrap_or_default(),
        Shape::Hyper => {
            let server = auto::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), service_fn(respond)).await.unwrap_or_default();
        }
    }
}

/// Reads a head, answers with bytes prepared beforehand, and so on.
async fn bare<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", OBJECT.len()).into_bytes();
    answer.extend_from_slice(&OBJECT);
    let mut buffer = Vec::with_capacity(4096);
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Some(at) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
            buffer.drain(..at + 4);
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

/// hyper's answer, to proxies as well: what is a `GET` may be kept for an hour.
pub(super) async fn respond(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.method() == Method::GET {
        let mut response = Response::new(Full::new(Bytes::from_static(&OBJECT)));
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("max-age=3600"));
        return Ok(response);
    }
    while let Some(frame) = request.frame().await {
        frame?;
    }
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn acceptor(directory: &Path) -> io::Result<TlsAcceptor> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(directory.join("server.pem")).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain.map_err(|error| rustls::Error::General(error.to_string()))?, key)
        })
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
