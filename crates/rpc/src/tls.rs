//! Mutual TLS 1.3: who is not of the cluster gets an alert and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};
use tokio::net::TcpStream;

use crate::keys::Identity;

/// A peer that is gone without a word is noticed after about this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sets up a connection: small packets are not held back, and a peer that is gone is noticed.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PATIENCE / 2)?;
    sockopt::set_tcp_keepintvl(stream, PATIENCE / 6)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    let milliseconds = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}

/// The name in the certificate of the node with this UUID.
pub(crate) fn host_name(uuid: &str) -> String {
    format!("{uuid}.node")
}

/// The name that the node with this UUID must show.
pub(crate) fn server_name(uuid: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host_name(uuid)).ok()
}

/// What a manager calls nodes with: it talks to nodes of its cluster only.
pub(crate) fn client(identity: &Identity) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(identity)?, Arc::clone(&provider))
        .build()
        .map_err(other)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain(identity)?, key(identity)?)?;
    Ok(Arc::new(config))
}

/// What a node answers with: only to clients whose certificate of the cluster is one for calling.
pub(crate) fn server(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity)?, Arc::clone(&provider))
        .build()
        .map_err(other)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(identity)?, key(identity)?)?;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&identity.authority)?)?;
    Ok(Arc::new(roots))
}

fn chain(identity: &Identity) -> Result<Vec<CertificateDer<'static>>, Error> {
    Ok(vec![certificate(&identity.certificate)?])
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(other)
}

fn key(identity: &Identity) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).map_err(other)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(rustls::OtherError(Arc::new(error)))
}
