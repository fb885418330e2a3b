//! An app on a socket, and a client that can write anything.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{io::ErrorKind, iter, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::timeout,
};

use crate::common::prelude::*;

/// Longer than any response or timeout under test takes: a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A request's head as text, without its end: a line about the body is to follow.
pub fn head(request: &Request) -> String {
    let first = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", request.method(), request.uri());
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}\r\n", value.to_str().expect("ASCII"))
    };
    iter::once(first).chain(request.headers().iter().map(line)).collect()
}

/// A request with its length, as it goes over the network.
pub fn sized(request: &Request, body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", head(request), body.len())
}

/// A request whose body is one chunk, without the last chunk.
pub fn chunked(request: &Request, body: &str) -> String {
    let (head, length) = (head(request), body.len());
    format!("{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n")
}

pub struct Client(pub TcpStream);

impl Client {
    pub async fn connect(address: impl ToSocketAddrs) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("an open connection");
    }

    /// Sends nothing more, but still listens.
    pub async fn finish(&mut self) {
        self.0.shutdown().await.expect("an open connection");
    }

    /// Asserts that the server closes the connection without another word.
    pub async fn assert_closed(mut self) {
        let rest = timeout(PATIENCE, self.0.read_u8()).await.expect("it stays open");
        let closed = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
        assert!(closed.contains(&rest.expect_err("nothing").kind()));
    }

    /// Asserts that the server says nothing, and does not close the connection.
    pub async fn assert_silent(&mut self) {
        let more = timeout(Duration::from_millis(200), self.0.read_u8()).await;
        assert!(more.is_err(), "{more:?}");
    }

    /// The next response, read to its end.
    pub async fn reply(&mut self) -> Reply {
        let first = self.line().await;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        while let Some((name, value)) = self.line().await.split_once(": ") {
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, length)| length.parse().ok());
        let length = length.unwrap_or_else(|| panic!("no length: {first}"));
        let mut body = vec![0; length];
        let read = timeout(PATIENCE, self.0.read_exact(&mut body)).await;
        read.expect("in time").expect("the whole body");
        Reply {
            status: status.unwrap_or_else(|| panic!("no status: {first}")),
            headers,
            body: String::from_utf8(body).expect("UTF-8"),
            rejection: None,
        }
    }

    /// One line of a head, read byte by byte, so that nothing of the body is taken.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = timeout(PATIENCE, self.0.read_u8()).await.expect("a response in time");
            line.push(byte.expect("a response"));
        }
        String::from_utf8(line).expect("UTF-8").trim_end().to_owned()
    }
}
