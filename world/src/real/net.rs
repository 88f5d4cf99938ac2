//! TCP by the kernel, through tokio.

use std::io;

use tokio::net::{TcpListener, TcpStream};

use crate::net::{BoxFuture, Listener, Net, Stream};

/// TCP with `TCP_NODELAY`: the log waits for single small answers, which Nagle's algorithm would hold back.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealNet;

impl Net for RealNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await.map_err(|why| naming("listen on", address, why))?;
            let bound = listener.local_addr().map_err(|why| naming("listen on", address, why))?.to_string();
            Ok(Box::new(Accepting { listener, bound }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await.map_err(|why| naming("connect to", address, why))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

struct Accepting {
    listener: TcpListener,
    bound: String,
}

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            // This fails only if the peer has already gone; reads from the stream then show that.
            let _ = stream.set_nodelay(true);
            Ok((Box::new(stream) as Box<dyn Stream>, peer.to_string()))
        })
    }

    fn local_address(&self) -> String {
        self.bound.clone()
    }
}

fn naming(what: &str, address: &str, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("cannot {what} {address}: {why}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_port_0_becomes_a_real_one() {
        let mut listener = RealNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address();
        assert!(!address.ends_with(":0"));
        let (near, far) = tokio::join!(RealNet.connect(&address), listener.accept());
        let (mut near, (mut far, _)) = (near.unwrap(), far.unwrap());
        near.write_all(b"ping").await.unwrap();
        far.write_all(b"pong").await.unwrap();
        let mut heard = [0; 4];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        near.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"pong");
    }

    #[tokio::test]
    async fn a_busy_port_is_named() {
        let listener = RealNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address();
        let error = RealNet.listen(&address).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address), "{error}");
    }
}
