//! Who may call whom: the cluster's certificate authority, the manager's key, each node's key, and how a node gets its own.
//!
//! The manager keeps all it needs in `manager.json`, a node in `node.json`, both in the state directory and readable by root alone. A
//! manager's certificate is good for calling only, and a node's for being called, so a key that is stolen from a node calls nobody.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gnt_config::{Secret, Settings};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::tls;

/// Where the manager keeps its keys, below the state directory.
const MANAGER_FILE: &str = "manager.json";
/// Where a node keeps what it got when it joined, below the state directory.
pub const NODE_FILE: &str = "node.json";
/// How long certificates are good: nobody renews them, a node is given a new one with another bundle.
const VALIDITY: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far behind a node's clock may be when it joins.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// What a node is told of itself and of the cluster. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// UUID of the cluster.
    pub cluster: String,
    /// Name of the cluster, for messages.
    pub cluster_name: String,
    /// UUID of the node.
    pub uuid: String,
    /// Name of the node, for messages.
    pub name: String,
    /// The address that it answers calls on (`primary_ip`).
    pub address: String,
    /// Where things are on every node.
    pub settings: Settings,
    /// Whether volumes have disks for themselves on this node.
    pub exclusive_storage: bool,
}

/// A private key with its certificate, and the authority that others' certificates must be signed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's certificate authority, PEM.
    pub authority: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: Secret,
}

/// What the manager has: the authority that makes nodes' keys, and the key that it calls nodes with.
#[derive(Debug)]
pub struct Manager {
    file: PathBuf,
    kept: ManagerFile,
}

/// What a node needs to join, and what it keeps afterwards. Whoever has it can be taken for the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// What the node is told.
    #[serde(flatten)]
    pub config: NodeConfig,
    /// What it answers calls with.
    #[serde(flatten, with = "identity_form")]
    pub identity: Identity,
}

/// Keys could not be made, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file of ours cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should be keys is something else. Its content is not told.
    #[error("{what} is not what gnt-disk wrote, at line {line} column {column}")]
    Form {
        /// The file, or the bundle.
        what: String,
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make the {what}")]
    Make {
        /// What for.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A key or certificate that is there cannot be used.
    #[error("the keys of {whose} cannot be used")]
    Unusable {
        /// `the manager` or the node's name.
        whose: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The node is another one already.
    #[error("this machine is node {name} of cluster {cluster} already")]
    Joined {
        /// Its name there.
        name: String,
        /// Name of that cluster.
        cluster: String,
        /// Where that is kept.
        file: PathBuf,
    },
}

impl KeyError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File { .. } | Self::Make { .. } => None,
            Self::Form { .. } => Some("'gnt-disk node add' on the manager makes a new bundle".to_owned()),
            Self::Unusable { .. } => {
                Some("is the clock right? 'gnt-disk node add' on the manager makes a new bundle".to_owned())
            }
            Self::Joined { file, .. } => {
                Some(format!("if it should not be any more, remove {}", file.display()))
            }
        }
    }
}

impl Manager {
    /// The keys in the state directory `state`; none before [`ensure`](Self::ensure) made them.
    pub fn load(state: &Path) -> Result<Option<Self>, KeyError> {
        let file = state.join(MANAGER_FILE);
        let kept = read(&file)?;
        Ok(kept.map(|kept| Self { file, kept }))
    }

    /// The keys in the state directory, made now if there are none. Of several processes that do so at once all get the same.
    pub fn ensure(state: &Path, cluster_name: &str) -> Result<Self, KeyError> {
        if let Some(there) = Self::load(state)? {
            return Ok(there);
        }
        let file = state.join(MANAGER_FILE);
        let kept = ManagerFile::make(cluster_name)?;
        match write(&file, &kept, false) {
            Ok(()) => Ok(Self { file, kept }),
            Err(failed) => Self::load(state)?.ok_or(failed),
        }
    }

    /// What the node that `config` describes needs to join: its key is new, and any that it had before stays good.
    pub fn bundle(&self, config: NodeConfig) -> Result<Bundle, KeyError> {
        let (certificate, key) = self.kept.issue(
            &config.name,
            vec![tls::host_name(&config.uuid)],
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        let authority = self.kept.authority.clone();
        Ok(Bundle {
            config,
            identity: Identity {
                authority,
                certificate,
                key,
            },
        })
    }

    /// What the manager calls nodes with.
    pub fn client(&self) -> Result<Arc<ClientConfig>, KeyError> {
        let identity = Identity {
            authority: self.kept.authority.clone(),
            certificate: self.kept.certificate.clone(),
            key: self.kept.key.clone(),
        };
        tls::client(&identity).map_err(|source| KeyError::Unusable {
            whose: format!("the manager in {}", self.file.display()),
            source,
        })
    }
}

impl Bundle {
    /// What a node keeps in the state directory `state`; none if it joined no cluster.
    pub fn load(state: &Path) -> Result<Option<Self>, KeyError> {
        read(&state.join(NODE_FILE))
    }

    /// Reads a bundle that a person brings; messages call it `what`.
    pub fn from_json(json: &[u8], what: &str) -> Result<Self, KeyError> {
        parse(json, what)
    }

    /// The bundle as it is brought to the node. It is secret.
    pub fn to_json(&self) -> Result<String, KeyError> {
        serde_json::to_string_pretty(self)
            .map(|json| json + "\n")
            .map_err(|source| KeyError::File {
                doing: "write",
                path: NODE_FILE.into(),
                source: source.into(),
            })
    }

    /// Makes this machine the node, once its keys have been found usable. It may be that node already, also from before it was removed and
    /// added again under its name, and gets new keys and settings then; a node of another cluster, or another node, it stays.
    pub fn install(&self, state: &Path) -> Result<(), KeyError> {
        self.server()?;
        match Self::load(state)? {
            Some(there) if !self.replaces(&there) => Err(there.joined(state)),
            _ => write(&state.join(NODE_FILE), self, true),
        }
    }

    fn replaces(&self, there: &Self) -> bool {
        let added_again =
            self.identity.authority == there.identity.authority && self.config.name == there.config.name;
        added_again || self.config.is_same_node(&there.config)
    }

    /// Refuses to make the machine with the state directory `state` another node than this.
    pub(crate) fn joined(self, state: &Path) -> KeyError {
        KeyError::Joined {
            name: self.config.name,
            cluster: self.config.cluster_name,
            file: state.join(NODE_FILE),
        }
    }

    /// What the node answers calls with.
    pub fn server(&self) -> Result<Arc<ServerConfig>, KeyError> {
        tls::server(&self.identity).map_err(|source| KeyError::Unusable {
            whose: format!("node {}", self.config.name),
            source,
        })
    }
}

impl NodeConfig {
    /// What a node of a cluster is told.
    pub fn new(
        node: &gnt_config::Node,
        group: &gnt_config::NodeGroup,
        cluster: &gnt_config::Cluster,
        settings: &Settings,
    ) -> Self {
        Self {
            cluster: cluster.uuid.clone(),
            cluster_name: cluster.cluster_name.clone(),
            uuid: node.uuid.clone(),
            name: node.name.clone(),
            address: node.primary_ip.clone(),
            settings: settings.clone(),
            exclusive_storage: node.has_exclusive_storage(group, cluster),
        }
    }

    /// Whether both are about the same node of the same cluster, whatever it is called.
    pub fn is_same_node(&self, other: &Self) -> bool {
        (&self.cluster, &self.uuid) == (&other.cluster, &other.uuid)
    }
}

/// `manager.json`.
#[derive(Serialize, Deserialize)]
struct ManagerFile {
    /// What the authority calls itself.
    name: String,
    authority: String,
    #[serde(with = "secret_form")]
    authority_key: Secret,
    certificate: String,
    #[serde(with = "secret_form")]
    key: Secret,
}

impl fmt::Debug for ManagerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerFile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ManagerFile {
    fn make(cluster_name: &str) -> Result<Self, KeyError> {
        let error = |source| KeyError::Make {
            what: "cluster's certificate authority",
            source,
        };
        let key = KeyPair::generate().map_err(error)?;
        // Distinct, so that a certificate of another cluster is told by its issuer.
        let mark = key.public_key_raw().iter().rev().take(8);
        let mark: String = mark.map(|byte| format!("{byte:02x}")).collect();
        let name = format!("gnt-disk {cluster_name} {mark}");
        let authority = authority(&name).self_signed(&key).map_err(error)?;
        let mut made = Self {
            name,
            authority: authority.pem(),
            authority_key: Secret::new(key.serialize_pem()),
            certificate: String::new(),
            key: Secret::new(""),
        };
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        (made.certificate, made.key) = made.issue("manager", Vec::new(), purpose)?;
        Ok(made)
    }

    /// A new key with its certificate.
    fn issue(
        &self,
        name: &str,
        host_names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(String, Secret), KeyError> {
        let make = || {
            let issuer = Issuer::new(
                authority(&self.name),
                KeyPair::from_pem(self.authority_key.expose())?,
            );
            let key = KeyPair::generate()?;
            let mut params = params(name, host_names)?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![purpose];
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &issuer)?;
            Ok((certificate.pem(), Secret::new(key.serialize_pem())))
        };
        make().map_err(|source| KeyError::Make {
            what: "certificate",
            source,
        })
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, Vec::new()).unwrap_or_default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, host_names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(host_names)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + VALIDITY).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, KeyError> {
    match fs::read(path) {
        Ok(json) => parse(&json, &path.display().to_string()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse<T: for<'a> Deserialize<'a>>(json: &[u8], what: &str) -> Result<T, KeyError> {
    // The parser's own message may quote a key.
    serde_json::from_slice(json).map_err(|error| KeyError::Form {
        what: what.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

/// Writes all or nothing, readable by us alone.
fn write(path: &Path, content: &impl Serialize, replace: bool) -> Result<(), KeyError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let mut file: NamedTempFile = tempfile::Builder::new()
            .prefix(".keys-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)?;
        serde_json::to_writer_pretty(&mut file, content)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        if replace {
            file.persist(path)?;
        } else {
            file.persist_noclobber(path)?;
        }
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| KeyError::File {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

/// Secrets as they are kept.
mod secret_form {
    use gnt_config::Secret;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// The keys of a bundle.
mod identity_form {
    use gnt_config::Secret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Identity, secret_form};

    #[derive(Serialize, Deserialize)]
    struct Form {
        authority: String,
        certificate: String,
        #[serde(with = "secret_form")]
        key: Secret,
    }

    pub(super) fn serialize<S: Serializer>(identity: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Form {
            authority: identity.authority.clone(),
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
        let form = Form::deserialize(deserializer)?;
        Ok(Identity {
            authority: form.authority,
            certificate: form.certificate,
            key: form.key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(state: &Path) -> NodeConfig {
        NodeConfig {
            cluster: "c1".to_owned(),
            cluster_name: "prod".to_owned(),
            uuid: "n2".to_owned(),
            name: "node2".to_owned(),
            address: "192.0.2.2".to_owned(),
            settings: Settings::under(state),
            exclusive_storage: false,
        }
    }

    #[test]
    fn keys_are_made_once_and_readable_by_us_alone() {
        let state = tempfile::tempdir().unwrap();
        assert!(Manager::load(state.path()).unwrap().is_none());
        let made = Manager::ensure(state.path(), "prod").unwrap();
        let again = Manager::ensure(state.path(), "other").unwrap();
        assert_eq!(made.kept.authority, again.kept.authority);
        let mode = fs::metadata(state.path().join(MANAGER_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        made.client().unwrap();
        let shown = format!("{made:?} {:?}", made.bundle(config(state.path())).unwrap());
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn processes_that_make_keys_at_once_get_the_same() {
        let state = tempfile::tempdir().unwrap();
        let all: Vec<_> = std::thread::scope(|scope| {
            let make = || scope.spawn(|| Manager::ensure(state.path(), "prod").unwrap().kept.authority);
            let threads: Vec<_> = (0..4).map(|_| make()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|one| *one == all[0]));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bundle_is_brought_to_a_node_which_then_is_no_other() {
        let (manager, node) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let manager = Manager::ensure(manager.path(), "prod").unwrap();
        let bundle = manager.bundle(config(node.path())).unwrap();
        let brought = Bundle::from_json(bundle.to_json().unwrap().as_bytes(), "standard input").unwrap();
        assert_eq!(brought, bundle);
        let state = node.path().join("state");
        assert!(Bundle::load(&state).unwrap().is_none());
        brought.install(&state).unwrap();
        assert_eq!(Bundle::load(&state).unwrap(), Some(bundle.clone()));
        let renewed = manager.bundle(config(node.path())).unwrap();
        assert_ne!(renewed, bundle);
        renewed.install(&state).unwrap();
        let mut other = config(node.path());
        other.uuid = "n3".to_owned();
        other.name = "node3".to_owned();
        let stranger = tempfile::tempdir().unwrap();
        let stranger = Manager::ensure(stranger.path(), "prod").unwrap();
        let mut namesake = config(node.path());
        namesake.uuid = "n4".to_owned();
        for refused in [manager.bundle(other), stranger.bundle(namesake.clone())] {
            let error = refused.unwrap().install(&state).unwrap_err();
            assert!(matches!(error, KeyError::Joined { .. }), "{error}");
        }
        assert_eq!(Bundle::load(&state).unwrap(), Some(renewed));
        // It was removed from the cluster, and added again.
        let again = manager.bundle(namesake).unwrap();
        again.install(&state).unwrap();
        assert_eq!(Bundle::load(&state).unwrap(), Some(again));
    }

    #[test]
    fn what_is_no_bundle_is_refused_without_showing_it() {
        let state = tempfile::tempdir().unwrap();
        let manager = Manager::ensure(state.path(), "prod").unwrap();
        let json = manager.bundle(config(state.path())).unwrap().to_json().unwrap();
        for text in [&json[..json.len() / 2], "", "[]", "{\"key\": \"PRIVATE\"}"] {
            let error = Bundle::from_json(text.as_bytes(), "bundle.json").unwrap_err();
            assert!(!format!("{error:?} {error}").contains("PRIVATE"), "{error:?}");
        }
        let spoilt = json.replace("BEGIN CERTIFICATE", "BEGIN SOMETHING");
        let error = Bundle::from_json(spoilt.as_bytes(), "bundle.json")
            .unwrap()
            .install(state.path())
            .unwrap_err();
        assert_eq!(error.to_string(), "the keys of node node2 cannot be used");
        assert!(Bundle::load(state.path()).unwrap().is_none());
    }
}
