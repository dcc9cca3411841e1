//! A node's settings: `node.toml` in its data directory, then `BARFS_NODE_*` variables, then flags; later ones win.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure, Outcome};

/// The settings file inside a data directory.
pub const CONFIG_FILE: &str = "node.toml";
const ENV_PREFIX: &str = "BARFS_NODE";
/// The least [`NodeConfig::unrecorded_grace_s`]: what a test can wait for. Below it a shard could go between its receipt
/// and its record on a good network.
const UNRECORDED_GRACE_MIN_S: u64 = 10;

/// Settings of one node. An unknown key is an error, so that a misspelt one is never silently ignored.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The address to listen on, `ip:port` (UDP).
    pub listen: SocketAddr,
    /// What to log, in the syntax of `tracing`'s filters, e.g. `info` or `barfs=debug`.
    #[serde(default = "default_log")]
    pub log: String,
    /// Bytes of log kept between two snapshots of the ledger, and so the most that a start replays.
    #[serde(default = "default_log_bytes")]
    pub log_bytes: u64,
    /// Seconds that a shard is kept which no record names: left over from a pack that was never recorded, or from a
    /// release that this node did not see. A record may come long after its shards: less than an hour is for tests.
    #[serde(default = "default_unrecorded_grace_s")]
    pub unrecorded_grace_s: u64,
    /// Where the count of starts is kept (in the data directory otherwise): on another disk it also notices when the
    /// whole data directory is put back from an older image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation_file: Option<PathBuf>,
}

fn default_log_bytes() -> u64 {
    256 << 20
}

fn default_unrecorded_grace_s() -> u64 {
    7 * 24 * 3600
}

fn default_log() -> String {
    "info".to_owned()
}

impl NodeConfig {
    /// The settings of a new node.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            log: default_log(),
            log_bytes: default_log_bytes(),
            unrecorded_grace_s: default_unrecorded_grace_s(),
            incarnation_file: None,
        }
    }

    /// Reads the settings of the node in `dir`; `listen` is the flag of that name.
    pub fn load(dir: &Path, listen: Option<SocketAddr>) -> Outcome<Self> {
        let bad = |cause: config::ConfigError| {
            let file = dir.join(CONFIG_FILE);
            Failure::new(
                Exit::BadConfig,
                format!(
                    "the settings in {} or {ENV_PREFIX}_* are wrong: {cause}",
                    file.display()
                ),
            )
        };
        let mut builder = config::Config::builder()
            .add_source(config::File::from(dir.join(CONFIG_FILE)).required(true))
            .add_source(config::Environment::with_prefix(ENV_PREFIX).prefix_separator("_"));
        if let Some(listen) = listen {
            builder = builder
                .set_override("listen", listen.to_string())
                .map_err(bad)?;
        }
        let config: Self = builder
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(bad)?;
        if config.unrecorded_grace_s < UNRECORDED_GRACE_MIN_S {
            return Err(bad(config::ConfigError::Message(format!(
                "unrecorded_grace_s must be at least {UNRECORDED_GRACE_MIN_S}: the record of a shard comes after it"
            ))));
        }
        Ok(config)
    }

    /// Writes the settings file of a new node.
    pub fn store(&self, dir: &Path) -> Outcome<()> {
        let text = toml::to_string(self)
            .map_err(|cause| Failure::new(Exit::BadConfig, cause.to_string()))?;
        crate::datadir::write_new(&dir.join(CONFIG_FILE), text.as_bytes(), 0o644)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write(dir: &Path, text: &str) {
        std::fs::write(dir.join(CONFIG_FILE), text).unwrap();
    }

    #[test]
    fn file_then_flag() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "listen = \"127.0.0.1:7001\"\n");
        let config = NodeConfig::load(dir.path(), None).unwrap();
        assert_eq!((config.listen.port(), config.log.as_str()), (7001, "info"));
        let flag = "127.0.0.1:9".parse().unwrap();
        assert_eq!(
            NodeConfig::load(dir.path(), Some(flag)).unwrap().listen,
            flag
        );
    }

    #[test]
    fn no_grace_for_shards_without_a_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "listen = \"127.0.0.1:7001\"\nunrecorded_grace_s = 0\n",
        );
        let failure = NodeConfig::load(dir.path(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::BadConfig);
        assert!(failure.message.contains("at least 10"), "{failure}");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "listen = \"127.0.0.1:7001\"\nlitsen = 3\n");
        let failure = NodeConfig::load(dir.path(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::BadConfig);
        assert!(failure.message.contains("litsen"), "{failure}");
    }
}
