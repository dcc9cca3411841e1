//! How a mount ends: by its socket, by a signal or by umount(8); always, and never with a lie about what is where.

use std::sync::Arc;
use std::time::Duration;

use barfs_fs::fuse::Mounted;
use barfs_fs::{Rung, SyncProgress, VolumeError};
use tokio::sync::{mpsc, watch};

use super::{Left, Mount, Options, announce};
use crate::control::Progress;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::jobs::Step;
use crate::output::complain;
use crate::progress::ByteBar;
use crate::session::{blocking, volume_failure};

/// What asked for the end.
pub(super) struct UnmountOrder {
    pub(super) wait: Option<Duration>,
    pub(super) progress: Option<Progress<Step>>,
    pub(super) done: Option<tokio::sync::oneshot::Sender<Outcome<Left>>>,
}

/// Announces a mount, waits for whatever ends it, then ends it.
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
    // Whoever hears that it is mounted may end it at once.
    announce(mount);
    let mounted = Arc::new(mounted);
    let waiting = Arc::clone(&mounted);
    let gone = tokio::task::spawn_blocking(move || waiting.wait());
    tokio::pin!(gone);
    let mut still_used = false;
    let order = loop {
        let by_signal = order_by_signal();
        let order = tokio::select! {
            _ = interrupt.recv() => by_signal,
            _ = terminate.recv() => by_signal,
            Some(order) = orders.recv() => order,
            // umount(8): nobody can be told to wait, so only what is quick is done here.
            _ = &mut gone => break UnmountOrder { wait: Some(Duration::ZERO), ..by_signal },
        };
        let (unmounting, helping) = (Arc::clone(&mounted), Arc::clone(&mount.write_back));
        let unmount = move || {
            let _nobody_helps = helping.pause();
            unmounting.try_unmount().map_err(volume_failure)
        };
        match (blocking(unmount).await, order.done) {
            (Ok(()), done) => break UnmountOrder { done, ..order },
            (Err(busy), Some(done)) => drop(done.send(Err(in_use(mount, &busy)))),
            (Err(busy), None) => {
                tracing::warn!(%busy, "programs still use the mount: it is detached, and ends when they let go");
                // Nobody can ask for it any more once the path leads elsewhere.
                let written = Arc::clone(mount);
                blocking(move || {
                    written.write_back.now();
                    Ok(())
                })
                .await?;
                mount.write_back.end();
                crate::mountpoint::detach(&mount.at)?;
                let patience = tokio::time::sleep(options.wait);
                tokio::select! {
                    _ = &mut gone => {}
                    () = patience => still_used = true,
                    _ = interrupt.recv() => still_used = true,
                    _ = terminate.recv() => still_used = true,
                }
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
    let wait = order.wait.unwrap_or(options.wait);
    let settled = settle(mount, wait, cancelled, order.progress).await;
    if let Some(done) = order.done {
        // Whoever asked may have gone.
        drop(done.send(match &settled {
            Ok(left) => Ok(left.clone()),
            Err(cause) => Err(Failure::new(cause.exit, cause.message.clone())),
        }));
    }
    let result = settled.and_then(|left| left.failure().map_or(Ok(()), Err));
    if !still_used {
        return result;
    }
    // The kernel would go on asking: its requests end with the process, which cannot wait for them.
    let failure = result.err().unwrap_or_else(|| {
        let message = "programs still had files of the mount open when it ended: what they had not written out is lost to it; all else is on this disk";
        Failure::new(Exit::VolumeInUse, message)
    });
    complain!("barfs: {failure}");
    crate::mountpoint::leave(failure.exit)
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

/// Waits for the group at most `wait`, then makes sure that all is on this disk; returns what is not on the group.
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
        let status = volume.status();
        Ok(Left {
            anything: status.uncommitted,
            bytes: status.dirty_bytes,
            why,
        })
    })
    .await
}
