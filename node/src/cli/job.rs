//! Jobs on a volume: on a mounted one its mount does them, otherwise this command opens the volume.

use std::path::PathBuf;

use clap::Args;

use super::mount;
use crate::control;
use crate::exit::{Exit, Failure, Outcome};
use crate::jobs::{self, Done, Job, Step};
use crate::mount::{MountReply, MountRequest};
use crate::output::tell;
use crate::profile;
use crate::progress::{ByteBar, Spinner};
use crate::secrets;
use crate::session::{Session, SessionOptions, blocking, volume_failure};

/// Which volume, and how to open it where it is not mounted.
#[derive(Args)]
pub(crate) struct Which {
    /// Which volume, if this machine has several
    #[arg(long)]
    pub(super) volume: Option<String>,
    /// File with the passphrase, for a volume that is not mounted (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Does jobs one after the other on the volume that is meant.
pub(super) fn on_volume(which: &Which, jobs: Vec<Job>) -> Outcome<Vec<Done>> {
    super::log_to_stderr("warn")?;
    let profile = profile::pick(which.volume.as_deref())?;
    super::runtime()?.block_on(async {
        let mounts = mount::mounts().await?;
        let mounted = mounts
            .into_iter()
            .find(|(other, _)| other.dir == profile.dir);
        let Some((mounted, status)) = mounted else {
            return without_mount(profile, which, jobs).await;
        };
        mount::write_back(status.mountpoint).await?;
        let mut all = Vec::new();
        for job in jobs {
            let mut display = Display::new(which.json);
            let request = MountRequest::Job(job);
            let socket = mounted.socket();
            let reply = control::call(&socket, &request, |step| display.show(&step)).await?;
            display.finish();
            match reply {
                MountReply::Job(done) => all.push(done),
                _ => {
                    return Err(Failure::new(
                        Exit::Failed,
                        "the mount answered another question",
                    ));
                }
            }
        }
        Ok(all)
    })
}

async fn without_mount(
    profile: profile::Profile,
    which: &Which,
    jobs: Vec<Job>,
) -> Outcome<Vec<Done>> {
    crate::memory::in_ordinary_pages();
    let passphrase = secrets::passphrase(which.passphrase_file.as_deref())?;
    let options = SessionOptions::default();
    let session = Session::open(profile, passphrase.as_bytes(), options).await?;
    let volume = std::sync::Arc::clone(&session.volume);
    let json = which.json;
    let result = blocking(move || {
        let each = jobs.into_iter().map(|job| {
            let mut display = Display::new(json);
            let done = jobs::perform(&volume, job, &mut |step| {
                display.show(&step);
                true
            });
            display.finish();
            done
        });
        let result = each.collect::<Outcome<Vec<_>>>();
        volume.close().map_err(volume_failure)?;
        result
    })
    .await;
    session.release().await;
    result
}

/// What a person sees while a job runs, and the lines of those that print as they go.
struct Display {
    bar: ByteBar,
    spinner: Spinner,
    json: bool,
}

impl Display {
    fn new(json: bool) -> Self {
        Self {
            bar: ByteBar::new("to the group"),
            spinner: Spinner::new(),
            json,
        }
    }

    fn show(&mut self, step: &Step) {
        match step {
            Step::Bytes(_) => mount::show(&mut self.bar, step),
            Step::Doing(what) => self.spinner.show(what),
            Step::Files {
                doing, done, total, ..
            } => {
                std::mem::take(&mut self.spinner).finish();
                self.bar.show_as(doing, *done, *total);
            }
            Step::Difference { path, how } if self.json => {
                tell!("{}", serde_json::json!({ "path": path, "how": how }));
            }
            Step::Difference { path, how } => tell!("{how:<10} {path}"),
        }
    }

    fn finish(self) {
        self.bar.finish();
        self.spinner.finish();
    }
}
