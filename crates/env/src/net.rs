//! Sockets. Everything that listens or connects does it here.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;
pub use tokio::net::{TcpListener, TcpStream};

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address; port 0 lets the system choose.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// An address that is taken and not listened on yet: nobody can connect. For services that must
/// know their port before they may serve.
#[derive(Debug)]
pub struct Bound(TcpSocket);

impl Bound {
    /// Takes an address; port 0 lets the system choose.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As `listen` does: a port whose last connections linger after a crash can be taken again.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self(socket))
    }

    /// The address, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Begins to listen. Fails when another process listens there.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)
    }
}

/// Connects to an address.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}
