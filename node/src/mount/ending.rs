//! How a mount ends: by its socket, by a signal or by umount(8); always, and never with a lie about what is where.

use std::sync::Arc;
use std::time::Duration;

use barfs_fs::fuse::Mounted;
use barfs_fs::{Rung, SyncProgress, VolumeError};
use tokio::sync::{mpsc, watch};

use super::{Mount, Options};
use crate::control::Progress;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::jobs::Step;
use crate::progress::ByteBar;
use crate::session::{blocking, volume_failure};

/// Bytes that are not on the group when a mount ends, and why.
pub(super) type Left = (u64, Option<String>);

/// What asked for the end.
pub(super) struct UnmountOrder {
    pub(super) wait: Option<Duration>,
    pub(super) progress: Option<Progress<Step>>,
    pub(super) done: Option<tokio::sync::oneshot::Sender<Outcome<Left>>>,
}

/// Waits for whatever ends a mount, then ends it.
pub(super) async fn serve_until_end(
    mount: &Arc<Mount>,
    mounted: Mounted,
    mut orders: mpsc::UnboundedReceiver<UnmountOrder>,
    options: &Options,
) -> Outcome<()> {
    let signal =
        |kind| tokio::signal::unix::signal(kind).during(Exit::Failed, "cannot listen for signals");
    let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
    let mounted = Arc::new(mounted);
    let waiting = Arc::clone(&mounted);
    let gone = tokio::task::spawn_blocking(move || waiting.wait());
    tokio::pin!(gone);
    let order = loop {
        let by_signal = order_by_signal();
        let order = tokio::select! {
            _ = interrupt.recv() => by_signal,
            _ = terminate.recv() => by_signal,
            Some(order) = orders.recv() => order,
            // umount(8): nobody can be told to wait, so only what is quick is done here.
            _ = &mut gone => break UnmountOrder { wait: Some(Duration::ZERO), ..by_signal },
        };
        let unmounting = Arc::clone(&mounted);
        match (
            blocking(move || unmounting.try_unmount().map_err(volume_failure)).await,
            order.done,
        ) {
            (Ok(()), done) => break UnmountOrder { done, ..order },
            (Err(busy), Some(done)) => drop(done.send(Err(in_use(mount, &busy)))),
            (Err(busy), None) => {
                tracing::warn!(%busy, "programs still use the mount: it is detached, and ends when they let go");
                crate::mountpoint::detach(&mount.at)?;
                break order_by_signal();
            }
        }
    };
    let (cancel, cancelled) = watch::channel(false);
    tokio::spawn(async move {
        // A second Ctrl-C stops the waiting; what is on this disk stays there.
        if interrupt.recv().await.is_some() {
            cancel.send_replace(true);
        }
    });
    let (left, waiting) = settle(
        mount,
        order.wait.unwrap_or(options.wait),
        cancelled,
        order.progress,
    )
    .await?;
    if let Some(done) = order.done {
        drop(done.send(Ok((left, waiting.clone()))));
    }
    if left == 0 {
        return Ok(());
    }
    let why = waiting.map_or_else(String::new, |why| format!(" ({why})"));
    let message = format!(
        "{left} bytes are on this disk but not on the group yet{why}; nothing is lost, they go up at the next mount"
    );
    Err(Failure::new(Exit::NotOnGroup, message))
}

fn order_by_signal() -> UnmountOrder {
    UnmountOrder {
        wait: None,
        progress: None,
        done: None,
    }
}

fn in_use(mount: &Mount, busy: &Failure) -> Failure {
    let message = format!(
        "programs still use files under {}: close them and try again ({busy})",
        mount.at.display()
    );
    Failure::new(Exit::VolumeInUse, message)
}

/// Waits for the group at most `wait`, then makes sure that all is on this disk; returns the bytes not on the group.
async fn settle(
    mount: &Arc<Mount>,
    wait: Duration,
    cancelled: watch::Receiver<bool>,
    progress: Option<Progress<Step>>,
) -> Outcome<Left> {
    let deadline = std::time::Instant::now() + wait;
    let volume = Arc::clone(&mount.volume);
    blocking(move || {
        let mut bar = ByteBar::new("to the group");
        let mut why = None;
        let synced = volume.sync(Rung::Group, &mut |step: SyncProgress| {
            bar.show(step.bytes_done, step.bytes_total, step.waiting.as_deref());
            if let Some(progress) = &progress {
                progress.tell(Step::of_sync(&step));
            }
            why = step.waiting;
            if *cancelled.borrow() || std::time::Instant::now() > deadline {
                volume.cancel_sync();
            }
        });
        bar.finish();
        match synced {
            Ok(()) => why = None,
            Err(VolumeError::Cancelled { .. }) => {}
            Err(cause) => why = Some(cause.to_string()),
        }
        volume.close().map_err(volume_failure)?;
        Ok((volume.status().dirty_bytes, why))
    })
    .await
}
