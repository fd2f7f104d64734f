//! `listen`: where events are taken over HTTP, a TCP address or a Unix socket.

use std::fs::{self, DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::timeout;

/// What the text of a Unix socket begins with.
pub const UNIX_PREFIX: &str = "unix:";

/// Bytes of a socket's path: systems take 103 or 107, of which the path that it
/// has while it is made needs some more than its last one.
pub const SOCKET_PATH_BYTES_MAX: usize = 90;

/// Who may connect: the owner and the group, whatever the umask.
const SOCKET_MODE: u32 = 0o660;

/// How long whoever has a socket may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody does so already.
    #[error("somebody answers on it")]
    Taken,
    /// There is a file that nobody asked us to replace.
    #[error("there is a file that is no socket")]
    NotASocket,
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A place that is listened on. A Unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    address: Listen,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Where it is: with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> &Listen {
        &self.address
    }
}

impl Listen {
    /// Takes the address. A socket's file that nobody answers on is what a
    /// publisher left that was killed: it is replaced.
    ///
    /// # Errors
    ///
    /// Where the address is somebody else's, or the system refuses.
    pub async fn bind(&self) -> Result<Listener, ListenError> {
        match self {
            Self::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = Self::Tcp(listener.local_addr()?);
                Ok(Listener { socket: Socket::Tcp(listener), address })
            }
            Self::Unix(path) => {
                check_free(path).await?;
                let (listener, file) = bind_unix(path)?;
                Ok(Listener { socket: Socket::Unix(listener, file), address: self.clone() })
            }
        }
    }
}

/// That nothing is at a path, or only what may be replaced.
async fn check_free(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await {
        // Who is too busy to answer is there all the same.
        Ok(Ok(_)) | Err(_) => Err(ListenError::Taken),
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::WouldBlock => Err(ListenError::Taken),
            _ => Err(error.into()),
        },
    }
}

/// Makes the socket in a folder that only we enter, and moves it to its place
/// once its mode is right: at no moment can it be opened by anyone else.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = PrivateFolder::new(beside.unwrap_or(Path::new(".")))?;
    let unfinished = folder.path.join("s");
    let listener = UnixListener::bind(&unfinished)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(SOCKET_MODE))?;
    let made = fs::symlink_metadata(&unfinished)?;
    fs::rename(&unfinished, path)?;
    let (device, inode) = (made.dev(), made.ino());
    Ok((listener, SocketFile { path: path.to_owned(), device, inode }))
}

/// A folder for ourselves, removed when it goes.
struct PrivateFolder {
    path: PathBuf,
}

impl PrivateFolder {
    fn new(beside: &Path) -> io::Result<Self> {
        let path = beside.join(format!(".{:08x}", fastrand::u32(..)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.path);
    }
}

/// A socket's file, removed when it goes, unless another one has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Ok(found) = fs::symlink_metadata(&self.path) else { return };
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            _ = fs::remove_file(&self.path);
        }
    }
}
