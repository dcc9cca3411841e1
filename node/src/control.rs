//! Unix sockets for the people of this machine: one JSON value a line, a request, then any number of progress lines,
//! then the result. The file permissions of the socket decide who may ask.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::exit::{During, Exit, Failure, Outcome};

/// The longest line that is read, in bytes.
const LINE_MAX: u64 = 4 << 20;
/// How long requests that run may take to be answered when a socket is closed.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// A line that a server sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<P, R> {
    Progress(P),
    Done(R),
    Failed { exit: u8, message: String },
}

/// Where a server says how far it is.
pub struct Progress<P> {
    lines: tokio::sync::mpsc::UnboundedSender<P>,
}

impl<P> Progress<P> {
    /// Tells the client; false if it has gone away.
    pub fn tell(&self, progress: P) -> bool {
        self.lines.send(progress).is_ok()
    }
}

/// What answers requests on a socket.
pub trait Service: Send + Sync + 'static {
    /// A request.
    type Request: DeserializeOwned + Send;
    /// A progress line.
    type Progress: Serialize + Send + Sync;
    /// A result.
    type Reply: Serialize + Send + Sync;
    /// Carries a request out.
    fn call(
        &self,
        request: Self::Request,
        progress: Progress<Self::Progress>,
    ) -> impl Future<Output = Outcome<Self::Reply>> + Send;
}

/// A socket that disappears with its owner.
pub struct Socket {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Socket {
    /// Takes no more requests and waits, for a few seconds at most, until those that run have been answered.
    pub async fn close(mut self) {
        if self.stop.take().is_some_and(|stop| stop.send(()).is_err()) {
            // The task has ended by itself: there is nothing left to answer.
            return;
        }
        if tokio::time::timeout(LAST_ANSWERS, &mut self.task)
            .await
            .is_err()
        {
            tracing::warn!("a control request was still running at the end");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(cause) = std::fs::remove_file(&self.path) {
            tracing::debug!(%cause, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

/// Serves requests on a socket at `path`; one that a dead process left behind is replaced. The caller holds the lock
/// of the directory.
pub fn serve<S: Service>(path: &Path, service: Arc<S>) -> Outcome<Socket> {
    let doing = || format!("cannot listen on {}", path.display());
    if path.exists() {
        std::fs::remove_file(path).during(Exit::Failed, doing())?;
    }
    let listener = UnixListener::bind(path).during(Exit::Failed, doing())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    std::fs::set_permissions(path, mode).during(Exit::Failed, doing())?;
    let (stop, stopped) = oneshot::channel();
    Ok(Socket {
        path: path.to_owned(),
        stop: Some(stop),
        task: tokio::spawn(accept(listener, service, stopped)),
    })
}

async fn accept<S: Service>(
    listener: UnixListener,
    service: Arc<S>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut conversations = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(cause) => {
                    tracing::error!(%cause, "the control socket failed");
                    break;
                }
            },
            Some(_) = conversations.join_next() => continue,
            _ = &mut stopped => break,
        };
        let service = Arc::clone(&service);
        conversations.spawn(async move {
            if let Err(cause) = converse(service, stream).await {
                tracing::debug!(%cause, "a control connection failed");
            }
        });
    }
    while conversations.join_next().await.is_some() {}
}

async fn converse<S: Service>(service: Arc<S>, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_MAX))
        .read_line(&mut line)
        .await?;
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(cause) => {
            let message = format!("the request makes no sense: {cause}");
            return say::<S>(
                &mut write,
                &Line::Failed {
                    exit: Exit::Usage as u8,
                    message,
                },
            )
            .await;
        }
    };
    let (lines, mut progress) = tokio::sync::mpsc::unbounded_channel();
    let call = service.call(request, Progress { lines });
    tokio::pin!(call);
    let result = loop {
        tokio::select! {
            Some(step) = progress.recv() => say::<S>(&mut write, &Line::Progress(step)).await?,
            result = &mut call => break result,
        }
    };
    // What was told before the result comes before it.
    while let Ok(step) = progress.try_recv() {
        say::<S>(&mut write, &Line::Progress(step)).await?;
    }
    let last = match result {
        Ok(reply) => Line::Done(reply),
        Err(failure) => Line::Failed {
            exit: failure.exit as u8,
            message: failure.message,
        },
    };
    say::<S>(&mut write, &last).await
}

async fn say<S: Service>(
    write: &mut OwnedWriteHalf,
    line: &Line<S::Progress, S::Reply>,
) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Sends a request to the socket at `path` and returns the result; progress lines go to `on_progress`.
pub async fn call<P: DeserializeOwned, R: DeserializeOwned>(
    path: &Path,
    request: &impl Serialize,
    mut on_progress: impl FnMut(P),
) -> Outcome<R> {
    let doing = || format!("cannot reach {}", path.display());
    let stream = UnixStream::connect(path)
        .await
        .map_err(|cause| connect_failure(path, &cause))?;
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_vec(request).during(Exit::Failed, doing())?;
    text.push(b'\n');
    write.write_all(&text).await.during(Exit::Failed, doing())?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.during(Exit::Failed, doing())? {
        match serde_json::from_str(&line).during(Exit::Failed, doing())? {
            Line::Progress(step) => on_progress(step),
            Line::Done(reply) => return Ok(reply),
            Line::Failed { exit, message } => {
                return Err(Failure {
                    exit: Exit::from_code(exit),
                    message,
                });
            }
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format!("{} ended without an answer", path.display()),
    ))
}

fn connect_failure(path: &Path, cause: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let at = path.display();
    match cause.kind() {
        NotFound | ConnectionRefused => Failure::new(
            Exit::NotFound,
            format!("nothing runs behind {at}: start it first"),
        ),
        PermissionDenied => Failure::new(
            Exit::Permission,
            format!("no permission to use {at}: ask its owner or run as root"),
        ),
        _ => Failure::new(Exit::Failed, format!("cannot reach {at}: {cause}")),
    }
}
