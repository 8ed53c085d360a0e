//! https: whom to trust, and who we are. `OTEL_EXPORTER_OTLP_CERTIFICATE`, `…_CLIENT_KEY`, `…_CLIENT_CERTIFICATE`.

use std::path::PathBuf;

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificates that are trusted instead of the system's.
    pub(crate) trusted: Option<PathBuf>,
    /// Our certificate, with those above it, and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

#[cfg(feature = "tls")]
pub(crate) type Connector = hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>;
#[cfg(not(feature = "tls"))]
pub(crate) type Connector = hyper_util::client::legacy::connect::HttpConnector;

#[cfg(not(feature = "tls"))]
impl Tls {
    /// http alone.
    pub(crate) fn connector(&self, _is_needed: bool) -> Result<Connector, String> {
        Ok(Connector::new())
    }
}

#[cfg(feature = "tls")]
mod with_rustls {
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};

    use super::{Connector, Tls};

    impl Tls {
        /// http and https. The system's certificates are read only if https `is_needed`.
        ///
        /// # Errors
        /// Which file cannot be used. Nothing is sent then: whoever names whom to trust does not want others.
        pub(crate) fn connector(&self, is_needed: bool) -> Result<Connector, String> {
            let config = self.config(is_needed)?;
            // `enable_all_versions`: whatever both ends speak.
            let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
            Ok(connector.enable_all_versions().build())
        }

        fn config(&self, is_needed: bool) -> Result<ClientConfig, String> {
            let mut roots = RootCertStore::empty();
            match &self.trusted {
                Some(path) => {
                    for certificate in certificates(path)? {
                        roots.add(certificate).map_err(|error| cannot(path, &error))?;
                    }
                }
                None if is_needed => {
                    let found = rustls_native_certs::load_native_certs();
                    roots.add_parsable_certificates(found.certs);
                }
                None => {}
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let builder = builder.map_err(|error| format!("cannot set up TLS: {error}"))?.with_root_certificates(roots);
            let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| cannot(key, &error))?;
            let chain = certificates(certificate)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| cannot(certificate, &error))
        }
    }

    fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let found = CertificateDer::pem_file_iter(path).map_err(|error| cannot(path, &error))?;
        let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| cannot(path, &error))?;
        if found.is_empty() { Err(cannot(path, &"no certificate in it")) } else { Ok(found) }
    }

    fn cannot(path: &Path, error: &dyn std::fmt::Display) -> String {
        format!("cannot use {}: {error}", path.display())
    }

    #[cfg(feature = "grpc-tls")]
    impl Tls {
        /// For tonic, which reads PEM itself.
        ///
        /// # Errors
        /// Which file cannot be used.
        pub(crate) fn tonic(&self) -> Result<opentelemetry_otlp::tonic_types::transport::ClientTlsConfig, String> {
            use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
            // Says what is wrong with the files.
            self.config(false)?;
            let read = |path: &Path| std::fs::read(path).map_err(|error| cannot(path, &error));
            let config = match &self.trusted {
                Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            Ok(match &self.identity {
                Some((certificate, key)) => config.identity(Identity::from_pem(read(certificate)?, read(key)?)),
                None => config,
            })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn files_that_cannot_be_used_are_named() {
            let here = Path::new("Cargo.toml").to_owned();
            for (tls, part) in [
                (Tls { trusted: Some("/no/such.pem".into()), identity: None }, "cannot use /no/such.pem: "),
                (Tls { trusted: Some(here.clone()), identity: None }, "no certificate in it"),
                (Tls { trusted: None, identity: Some((here.clone(), here)) }, "Cargo.toml: "),
            ] {
                let error = tls.connector(true).unwrap_err();
                assert!(error.contains(part), "{error}");
            }
            assert!(Tls::default().connector(false).is_ok());
        }
    }
}
