//! `configtls`: the collector's TLS settings for servers and clients, on rustls.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};

/// TLS of a server. Giving `client_ca_file` asks clients for a certificate (mTLS).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTls {
    pub cert_file: String,
    pub key_file: String,
    pub cert_pem: String,
    pub key_pem: String,
    pub client_ca_file: String,
    pub min_version: String,
    pub max_version: String,
}

/// TLS of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// No TLS at all.
    pub insecure: bool,
    /// TLS without checking the server's certificate.
    pub insecure_skip_verify: bool,
    pub server_name_override: String,
    pub ca_file: String,
    pub ca_pem: String,
    pub cert_file: String,
    pub cert_pem: String,
    pub key_file: String,
    pub key_pem: String,
    pub include_system_ca_certs_pool: bool,
    pub min_version: String,
    pub max_version: String,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn pem(what: &str, file: &str, inline: &str) -> Result<Vec<u8>, String> {
    match (file, inline) {
        ("", "") => Err(format!("{what} is missing")),
        ("", inline) => Ok(inline.as_bytes().to_vec()),
        (file, _) => std::fs::read(file).map_err(|error| format!("cannot read {what} {file}: {error}")),
    }
}

fn certificates(what: &str, file: &str, inline: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = pem(what, file, inline)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(format!("{what} holds no certificate")),
        Err(error) => Err(format!("cannot read {what}: {error}")),
    }
}

fn key(what: &str, file: &str, inline: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&pem(what, file, inline)?).map_err(|error| format!("cannot read {what}: {error}"))
}

fn versions(min: &str, max: &str) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, String> {
    let known = [("1.2", &rustls::version::TLS12), ("1.3", &rustls::version::TLS13)];
    let place = |text: &str, default| match text {
        "" => Ok(default),
        text => known
            .iter()
            .position(|(name, _)| *name == text)
            .ok_or_else(|| format!("unsupported TLS version {text:?}: 1.2 and 1.3 are")),
    };
    let (min, max) = (place(min, 0)?, place(max, 1)?);
    if min > max {
        return Err("min_version is above max_version".to_owned());
    }
    Ok(known[min..=max].iter().map(|(_, version)| *version).collect())
}

impl ServerTls {
    /// # Errors
    /// When a file cannot be read or does not fit the others.
    pub fn build(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, String> {
        let chain = certificates("cert_file", &self.cert_file, &self.cert_pem)?;
        let key = key("key_file", &self.key_file, &self.key_pem)?;
        let versions = versions(&self.min_version, &self.max_version)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?;
        let builder = if self.client_ca_file.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca_file", &self.client_ca_file, "")? {
                roots.add(certificate).map_err(|error| format!("client_ca_file: {error}"))?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| format!("client_ca_file: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| format!("cert_file: {error}"))?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl ClientTls {
    /// # Errors
    /// When a file cannot be read or does not fit the others.
    pub fn build(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, String> {
        let versions = versions(&self.min_version, &self.max_version)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAll(provider())))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let has_certificate = !(self.cert_file.is_empty() && self.cert_pem.is_empty());
        let mut config = if has_certificate {
            let chain = certificates("cert_file", &self.cert_file, &self.cert_pem)?;
            let key = key("key_file", &self.key_file, &self.key_pem)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("cert_file: {error}"))?
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let named = !(self.ca_file.is_empty() && self.ca_pem.is_empty());
        if named {
            for certificate in certificates("ca_file", &self.ca_file, &self.ca_pem)? {
                roots.add(certificate).map_err(|error| format!("ca_file: {error}"))?;
            }
        }
        if !named || self.include_system_ca_certs_pool {
            // A machine may hold certificates that rustls does not read; the others serve.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Ok(roots)
    }
}

/// The name that a server's certificate must bear.
///
/// # Errors
/// When it is neither a DNS name nor an address.
pub fn server_name(host: &str, name_override: &str) -> Result<ServerName<'static>, String> {
    let name = if name_override.is_empty() { host } else { name_override };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is not a server name"))
}

/// `insecure_skip_verify`: any certificate will do, signatures are still checked.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
