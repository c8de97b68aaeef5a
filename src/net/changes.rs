//! An alarm that rings when an interface or an address of this machine comes, goes or changes.
//!
//! On Linux a thread listens to the kernel's news (rtnetlink(7)); on other systems, and where that can't be had, nothing
//! rings, and who listens looks from time to time.

use std::time::Duration;
use tokio::sync::watch;

/// See the module. Nothing of it is left when it is dropped.
pub struct Changes {
    /// Until the thread ends.
    rings: Option<watch::Receiver<()>>,
    rung: bool,
    /// Its other end tells the thread to end.
    #[cfg(target_os = "linux")]
    _thread: Option<std::io::PipeWriter>,
}

impl Changes {
    /// Listens from now on.
    pub fn listen() -> Changes {
        let (ring, rings) = watch::channel(());
        #[cfg(target_os = "linux")]
        {
            let thread = linux::listen(ring).map_err(|error| {
                tracing::debug!(%error, "the system does not tell of changes of the network; looking from time to time");
            });
            Changes { rings: thread.is_ok().then_some(rings), rung: false, _thread: thread.ok() }
        }
        #[cfg(not(target_os = "linux"))]
        {
            drop((ring, rings));
            Changes { rings: None, rung: false }
        }
    }

    /// Waits until it rings, for `at_most`.
    pub async fn wait(&mut self, at_most: Duration) {
        let rung = async {
            match &mut self.rings {
                Some(rings) => rings.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        match tokio::time::timeout(at_most, rung).await {
            Ok(true) => self.rung = true,
            Ok(false) => self.rings = None,
            Err(_) => {}
        }
    }

    /// Whether it rang since this was asked last.
    pub fn rung(&mut self) -> bool {
        std::mem::take(&mut self.rung)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
    use std::io::{self, PipeReader, PipeWriter};
    use std::os::fd::OwnedFd;
    use tokio::sync::watch;

    /// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (rtnetlink(7)).
    const GROUPS: u32 = 0x1 | 0x10 | 0x100;
    /// What is read of one message: nothing in it counts, only that it came.
    const MESSAGE_BYTES: usize = 64;

    /// Starts the thread; it ends when the returned end of a pipe is dropped, or nobody listens.
    pub(super) fn listen(ring: watch::Sender<()>) -> io::Result<PipeWriter> {
        // The protocol without a number is NETLINK_ROUTE.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        let (ended, end) = io::pipe()?;
        std::thread::Builder::new().name("network".to_owned()).spawn(move || run(&socket, &ended, &ring))?;
        Ok(end)
    }

    fn run(socket: &OwnedFd, ended: &PipeReader, ring: &watch::Sender<()>) {
        loop {
            let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return tracing::debug!(%error, "the network's changes can't be waited for"),
            }
            let [news, end] = fds.map(|fd| !fd.revents().is_empty());
            if end {
                return;
            }
            if news {
                if let Err(error) = drain(socket) {
                    return tracing::debug!(%error, "the network's changes can't be read");
                }
                ring.send_replace(());
            }
        }
    }

    /// Reads all that waits. Messages that found no room were changes as well.
    fn drain(socket: &OwnedFd) -> rustix::io::Result<()> {
        let mut message = [0; MESSAGE_BYTES];
        loop {
            match recv(socket, &mut message, RecvFlags::empty()) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn the_thread_ends_with_who_listens() {
            let (ring, mut rings) = watch::channel(());
            let end = listen(ring).expect("the kernel tells everybody");
            drop(end);
            // The thread holds the only sender.
            while rings.changed().await.is_ok() {}
        }
    }
}
