//! A message as hyper reads it, over a connection in memory that ends behind it.

use super::{Message, Reading, in_order};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

/// More than any message here.
const ROOM: usize = 1 << 16;

pub(super) async fn request(wire: &[u8]) -> Reading {
    let (mut client, server) = tokio::io::duplex(ROOM);
    client.write_all(wire).await.unwrap();
    client.shutdown().await.unwrap();
    let read = RefCell::new(Err("no request".to_owned()));
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let uri = &head.uri;
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let start = vec![head.method.to_string(), authority, path, format!("{:?}", head.version)];
        let message = message(start, &head.headers, body).await;
        *read.borrow_mut() = message;
        Ok::<_, Infallible>(Response::new(Empty))
    });
    let connection = hyper::server::conn::http1::Builder::new().keep_alive(false).half_close(true).serve_connection(Io(server), service);
    let served = connection.await;
    let read = read.into_inner();
    // What went wrong with the connection says more.
    read.map_err(|why| served.err().map_or(why, |error| format!("{error:?}")))
}

pub(super) async fn answer(method: &Method, wire: &[u8]) -> Reading {
    let (client, mut server) = tokio::io::duplex(ROOM);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Io(client)).await.unwrap();
    let request = Request::builder().method(method).uri("/").header("host", "a").body(Empty).unwrap();
    let answered = async {
        let mut asked = vec![0; ROOM];
        // The request is one write of hyper's.
        assert!(server.read(&mut asked).await.unwrap() > 0);
        server.write_all(wire).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let read = async {
        let (head, body) = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?.into_parts();
        let mut message = message(vec![head.status.to_string()], &head.headers, body).await?;
        // The same length said twice is one length (RFC 9112 section 6.3), which we say once.
        message.fields.dedup_by(|one, other| one.0 == "content-length" && one.0 == other.0);
        Ok(message)
    };
    let ((), read, _) = tokio::join!(answered, read, connection);
    read
}

async fn message(start: Vec<String>, fields: &HeaderMap, mut incoming: Incoming) -> Reading {
    let length = incoming.size_hint().exact();
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        match frame.map_err(|error| format!("{error:?}"))?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(Message { start, fields: in_order(fields), length, body, trailers: in_order(&trailers) })
}

struct Empty;

impl Body for Empty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// The runtime's connection as hyper takes it.
struct Io(DuplexStream);

impl hyper::rt::Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: hyper::rt::ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let mut bytes = [0; 4 << 10];
        let room = into.remaining().min(bytes.len());
        let mut buffer = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        into.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
