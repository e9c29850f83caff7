//! Sockets. Everything that listens or connects does it here.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::TcpSocket;
pub use tokio::net::tcp::OwnedReadHalf;
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

/// Waits until the peer has closed its side, whatever bytes of it are still unread. Reading finds
/// that out only behind the last byte, and who waits for memory does not read.
pub async fn closed_by_peer(half: &OwnedReadHalf) {
    // Readiness for urgent data includes "the peer sends no more", but not "there is something to
    // read". Urgent data itself is not asked for.
    #[cfg(target_os = "linux")]
    if let Ok(ready) = half.ready(Interest::PRIORITY).await
        && ready.is_read_closed()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Whether bytes of a peer that has closed its side are still to be read.
pub async fn has_unread(half: &OwnedReadHalf) -> bool {
    matches!(half.as_ref().peek(&mut [0]).await, Ok(1..))
}

/// Connects to an address.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}
