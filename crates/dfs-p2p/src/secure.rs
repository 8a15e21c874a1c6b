//! TLS 1.3 with raw Ed25519 public keys both ways (RFC 7250): the key is the identity.
//!
//! There are no certificates, names, tickets or early data. Whether a key is welcome is decided
//! afterwards, from the greeting.

use std::sync::Arc;

use dfs_core::id::NodeId;
use dfs_env::Stream;
use ed25519_dalek::SigningKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::hello::Exporter;

/// Both ends of TLS for one node key.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

/// A handshake's result: the stream, who is at the other end, and what ties a proof to it.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<Stream>,
    pub(crate) peer: NodeId,
    pub(crate) exporter: Exporter,
}

impl Tls {
    pub(crate) fn new(key: &SigningKey) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pkcs8 = pkcs8(key);
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let signing = provider.key_provider.load_private_key(private)?;
        let spki = spki(&key.verifying_key().to_bytes());
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signing));
        let verifier = Arc::new(AnyNodeKey(provider.clone()));

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                certified.clone(),
            )));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }

    pub(crate) async fn connect(&self, stream: Stream) -> std::io::Result<Secured> {
        // Servers are told apart by key; the name is required by the API and sent to nobody.
        let name = ServerName::try_from("dfs.invalid").expect("a valid name");
        let stream = self.connector.connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        let exporter = session.export_keying_material([0; 32], EXPORTER_LABEL, None);
        let peer = peer_key(session.peer_certificates(), session.alpn_protocol());
        finish(TlsStream::Client(stream), peer, exporter)
    }

    pub(crate) async fn accept(&self, stream: Stream) -> std::io::Result<Secured> {
        let stream = self.acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let exporter = session.export_keying_material([0; 32], EXPORTER_LABEL, None);
        let peer = peer_key(session.peer_certificates(), session.alpn_protocol());
        finish(TlsStream::Server(stream), peer, exporter)
    }
}

fn finish(
    stream: TlsStream<Stream>,
    peer: Option<NodeId>,
    exporter: Result<Exporter, Error>,
) -> std::io::Result<Secured> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let exporter = exporter.map_err(|_| invalid())?;
    Ok(Secured { stream, peer: peer.ok_or_else(invalid)?, exporter })
}

fn peer_key(certs: Option<&[CertificateDer<'_>]>, alpn: Option<&[u8]>) -> Option<NodeId> {
    if alpn != Some(ALPN) {
        return None;
    }
    key_in(certs?.first()?)
}

/// The Ed25519 key of a SubjectPublicKeyInfo (RFC 8410); `None` for any other kind of key.
fn key_in(spki: &[u8]) -> Option<NodeId> {
    NodeId::from_slice(spki.strip_prefix(SPKI_PREFIX)?).ok()
}

fn spki(public: &[u8; 32]) -> Vec<u8> {
    [SPKI_PREFIX, public].concat()
}

fn pkcs8(key: &SigningKey) -> Vec<u8> {
    [PKCS8_PREFIX, key.as_bytes()].concat()
}

/// Accepts any Ed25519 key that signs the handshake.
#[derive(Debug)]
struct AnyNodeKey(Arc<CryptoProvider>);

impl AnyNodeKey {
    fn known_kind(spki: &CertificateDer<'_>) -> Result<(), Error> {
        let unknown = Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        key_in(spki).map(|_| ()).ok_or(unknown)
    }

    fn verify(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, signature, algorithms)
    }
}

impl ServerCertVerifier for AnyNodeKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::known_kind(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyNodeKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::known_kind(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

const ALPN: &[u8] = b"dfs/1";
const EXPORTER_LABEL: &[u8] = b"dfs join v1";
/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING (33 bytes) }, before the key itself.
const SPKI_PREFIX: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS#8 version 0 with the Ed25519 OID, before the 32-byte seed (RFC 8410).
const PKCS8_PREFIX: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
