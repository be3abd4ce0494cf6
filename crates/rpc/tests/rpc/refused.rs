//! Who is not the cluster's manager gets nothing.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gnt_cmdlib::node::NodeError;
use gnt_cmdlib::{Node as _, error::chain};
use gnt_config::{LogicalDevice, Mebibytes};
use gnt_rpc::keys::Manager;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::world::{INSTANCE, NODE, World};

/// A client that trusts the cluster, and shows `shown` if anything.
fn client(world: &World, shown: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(world.bundle.identity.authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// A certificate by the cluster's own authority.
fn certify(world: &World, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let kept = fs::read_to_string(world.dir.path().join("manager/manager.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let text = |key: &str| kept[key].as_str().unwrap().to_owned();
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority
        .distinguished_name
        .push(DnType::CommonName, text("name"));
    let issuer = Issuer::new(authority, KeyPair::from_pem(&text("authority_key")).unwrap());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// What a client sees of a refusal: an alert, and not a byte more.
async fn refusal(world: &World, tls: Arc<ClientConfig>) -> String {
    let refused = match world.connect(tls.clone()).await {
        Ok(raw) => raw.post("version", "", b"[]").await.unwrap_err(),
        Err(error) => error,
    };
    let error = world.client_with(tls).version().await.unwrap_err();
    assert!(
        matches!(error, NodeError::Untrusted { .. } | NodeError::Unanswered { .. }),
        "{error:?}"
    );
    refused.to_string()
}

#[tokio::test]
async fn only_a_managers_certificate_is_let_in() {
    let world = World::new().await;
    let (good, key) = certify(&world, |_| {});
    world
        .client_with(client(&world, Some((&good, &key))))
        .version()
        .await
        .unwrap();

    let alert = refusal(&world, client(&world, None)).await;
    assert!(alert.contains("CertificateRequired"), "{alert}");

    let stolen = &world.bundle.identity;
    let alert = refusal(
        &world,
        client(&world, Some((&stolen.certificate, stolen.key.expose()))),
    )
    .await;
    assert!(alert.contains("alert"), "{alert}");

    let past = SystemTime::now() - Duration::from_secs(3600);
    let (expired, key) = certify(&world, |params| {
        params.not_before = (past - Duration::from_secs(3600)).into();
        params.not_after = past.into();
    });
    let alert = refusal(&world, client(&world, Some((&expired, &key)))).await;
    assert!(alert.contains("CertificateExpired"), "{alert}");

    let (for_servers, key) = certify(&world, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let alert = refusal(&world, client(&world, Some((&for_servers, &key)))).await;
    assert!(alert.contains("alert"), "{alert}");
}

#[tokio::test]
async fn another_clusters_manager_is_refused_and_refuses() {
    let world = World::new().await;
    let other = Manager::ensure(&world.dir.path().join("other"), "prod").unwrap();
    let error = world
        .client_with(other.client().unwrap())
        .version()
        .await
        .unwrap_err();
    assert!(matches!(error, NodeError::Untrusted { .. }), "{error:?}");
    assert!(chain(&error).contains("UnknownIssuer"), "{}", chain(&error));
    let hint = error.hint().unwrap();
    assert!(hint.contains("gnt-disk node add node2 --readd --ssh"), "{hint}");
    assert!(!hint.contains("--offline"), "{hint}");

    // One that trusts the node is refused by it.
    let kept = fs::read_to_string(world.dir.path().join("other/manager.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let shown = (
        kept["certificate"].as_str().unwrap(),
        kept["key"].as_str().unwrap(),
    );
    let alert = refusal(&world, client(&world, Some(shown))).await;
    assert!(alert.contains("alert"), "{alert}");
}

#[tokio::test]
async fn a_node_that_is_another_one_is_not_asked() {
    let world = World::new().await;
    let keys = world.manager.client().unwrap();
    let wrong = gnt_rpc::Client::with_port("node3", "uuid-of-node3", "127.0.0.1", world.address.port(), keys);
    let disk = world.disk(LogicalDevice::File, 0, Mebibytes(8));
    let error = wrong.find(&disk, INSTANCE).await.unwrap_err();
    assert!(chain(&error).contains("not valid for name"), "{}", chain(&error));
}

#[tokio::test]
async fn a_node_that_is_down_is_told_at_once() {
    let mut world = World::new().await;
    let node = world.client();
    node.version().await.unwrap();
    world.stop().await;
    let begun = std::time::Instant::now();
    let error = node.version().await.unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(error.to_string(), "node node2 cannot be reached");
    assert!(error.hint().unwrap().contains("systemctl status"));
}

#[tokio::test]
async fn an_operation_waits_for_a_daemon_that_is_restarted() {
    let mut world = World::new().await;
    let node = world.client().for_operation("4711");
    node.version().await.unwrap();
    world.stop().await;
    let restart = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.start().await;
    };
    let (version, ()) = tokio::join!(node.version(), restart);
    version.unwrap();
    world.stop().await;
    let begun = std::time::Instant::now();
    let error = node.version().await.unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error:?}");
    assert!(
        (4..8).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_connection_that_ends_without_a_word_is_told_in_plain_words() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(world.bundle.server().unwrap());
    // It is killed when it has read something.
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 64]).await;
    });
    let keys = world.manager.client().unwrap();
    let node = gnt_rpc::Client::with_port("node2", NODE, "127.0.0.1", port, keys);
    let error = node.version().await.unwrap_err();
    assert!(matches!(error, NodeError::Unanswered { .. }), "{error:?}");
    assert!(!chain(&error).contains("http"), "{}", chain(&error));
}
