//! A throw-away certificate authority with one leaf, for servers that speak TLS.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A server's identity: a leaf certificate for some names, its key, and the authority that signed it.
#[derive(Debug)]
pub struct Identity {
    authority: String,
    certificate: String,
    key: String,
    chain: Vec<CertificateDer<'static>>,
    private_key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A new authority and a leaf for these DNS names or IP addresses.
    pub fn for_names(names: &[&str]) -> Result<Self> {
        let mut authority = CertificateParams::new(Vec::new()).context("authority")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "Throw-away authority");
        let authority_key = KeyPair::generate().context("the authority's key")?;
        let authority_certificate =
            authority.self_signed(&authority_key).context("the authority's certificate")?;
        let issuer = Issuer::new(authority, authority_key);

        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = CertificateParams::new(names).context("a name is neither DNS name nor IP address")?;
        let key = KeyPair::generate().context("the leaf's key")?;
        let certificate = leaf.signed_by(&key, &issuer).context("the leaf's certificate")?;
        let private_key = PrivateKeyDer::try_from(key.serialize_der());
        Ok(Self {
            authority: authority_certificate.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            private_key: private_key.map_err(anyhow::Error::msg).context("the leaf's key")?,
        })
    }

    /// The authority's certificate as PEM: what a client must trust.
    pub fn ca_pem(&self) -> &str {
        &self.authority
    }

    /// The leaf's certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The leaf's private key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// A server's configuration that speaks HTTP/1.1 only.
    pub(crate) fn server_config(&self) -> Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.private_key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_of_pem_that_other_programs_read() {
        let identity = Identity::for_names(&["dev.azure.com", "127.0.0.1"]).unwrap();
        assert!(identity.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(identity.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(identity.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(identity.server_config().is_ok());
        assert!(Identity::for_names(&["n\u{e4}me"]).is_err());
    }
}
