//! Who may write to a vault: certificates, and the signatures they back.

use ed25519_dalek::{Signer, SigningKey};

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::{CertId, RecordKey, VaultId};
use crate::record::version::{Kind, Version};
use crate::signature::{BadSignature, verify_signature};

/// A vault's word that a key may write: checked by every peer before it stores a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterCert {
    /// The vault.
    pub vault: VaultId,
    /// The vault's signing key; [`VaultId`] is its hash.
    pub root: [u8; 32],
    /// The writer's key.
    pub writer: [u8; 32],
    /// When the certificate ends, in milliseconds since 1970.
    pub not_after_unix_ms: u64,
    /// Which generation of certificates this one belongs to; revocation raises the lowest valid.
    pub cert_epoch: u32,
    /// The vault's signature over everything above.
    pub signature: [u8; 64],
}

/// Why a version or a certificate is not what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForgedError {
    /// The certificate's vault is not the hash of its root key.
    #[error("the certificate names another vault than its root key")]
    OtherVault,
    /// The version names another certificate.
    #[error("the version was signed under another certificate")]
    OtherCert,
    /// A signature does not verify.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// A ballot is signed, and what was accepted under it is not, or the reverse.
    #[error("what was accepted under a ballot is not signed")]
    Unsigned,
    /// What was accepted is called settled, and the record does not have it.
    #[error("a version that is called settled is not there")]
    Hidden,
    /// A live version carries no content, or a tombstone content without history or the reverse.
    #[error("the version's kind and content disagree")]
    Shape,
}

impl WriterCert {
    /// Certifies `writer` for as long as `not_after_unix_ms` says.
    pub fn issue(root: &SigningKey, writer: [u8; 32], not_after_unix_ms: u64) -> Self {
        let root_public = root.verifying_key().to_bytes();
        let mut cert = Self {
            vault: vault_id(&root_public),
            root: root_public,
            writer,
            not_after_unix_ms,
            cert_epoch: 1,
            signature: [0; 64],
        };
        cert.signature = root.sign(&cert.signed_bytes()).to_bytes();
        cert
    }

    /// The certificate's id.
    pub fn id(&self) -> CertId {
        CertId::new(*blake3::hash(&self.to_canonical()).as_bytes())
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.fixed(b"dfs-writer-cert-v1\0");
        self.encode_facts(&mut out);
        out.into_vec()
    }

    fn encode_facts(&self, out: &mut Writer) {
        self.vault.encode(out);
        out.fixed(&self.root);
        out.fixed(&self.writer);
        out.u64(self.not_after_unix_ms);
        out.u32(self.cert_epoch);
    }

    /// Checks that the vault itself issued this.
    ///
    /// # Errors
    /// [`ForgedError`] when it did not.
    pub fn verify(&self) -> Result<(), ForgedError> {
        if vault_id(&self.root) != self.vault {
            return Err(ForgedError::OtherVault);
        }
        Ok(verify_signature(&self.root, &self.signed_bytes(), &self.signature)?)
    }

    /// Checks that the certified writer signed `version` for `key`. One signature check.
    ///
    /// # Errors
    /// [`ForgedError`] when it did not.
    pub fn verify_version(&self, key: &RecordKey, version: &Version) -> Result<(), ForgedError> {
        if self.vault != key.vault {
            return Err(ForgedError::OtherVault);
        }
        if version.writer != self.id() {
            return Err(ForgedError::OtherCert);
        }
        // A tombstone has content for its history only.
        let needs_content = version.kind == Kind::Live || !version.retained.is_empty();
        if needs_content == version.sealed.is_empty() {
            return Err(ForgedError::Shape);
        }
        Ok(verify_signature(&self.writer, &version.signed_bytes(key), &version.signature)?)
    }
}

impl Canonical for WriterCert {
    fn encode(&self, out: &mut Writer) {
        out.u8(CERT_FORMAT);
        self.encode_facts(out);
        out.fixed(&self.signature);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            CERT_FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        Ok(Self {
            vault: VaultId::decode(input)?,
            root: input.array()?,
            writer: input.array()?,
            not_after_unix_ms: input.u64()?,
            cert_epoch: input.u32()?,
            signature: input.array()?,
        })
    }
}

/// The id of the vault that `root` signs for.
pub fn vault_id(root: &[u8; 32]) -> VaultId {
    let hash = blake3::derive_key("dfs vault id v1", root);
    let mut id = [0; VaultId::LEN];
    id.copy_from_slice(&hash[..VaultId::LEN]);
    VaultId::new(id)
}

const CERT_FORMAT: u8 = 1;
