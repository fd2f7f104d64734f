//! Which certification authorities the handler trusts.
//!
//! Reading and parsing the hundred and more of the machine is two thirds of all that a
//! handler does before its first event, and AWS's endpoints chain to five of them, which
//! are compiled in.

use aws_smithy_http_client::tls::{TlsContext, TrustStore};

/// The roots of Amazon Trust Services, all five, as it asks of who keeps a trust store
/// of their own. Source: <https://www.amazontrust.com/repository/>.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// What names other certificates, to the readers of them that there are: for a proxy
/// that ends TLS, or an endpoint that is not AWS's.
const NAME_OTHERS: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// AWS's regions in China are a partition of its own, of whose certificates Amazon Trust
/// Services says nothing.
const CHINA: &str = "cn-";

/// Whose certificates are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// Those of Amazon Trust Services.
    Amazon,
    /// Those of the machine, or of the file or folder that `SSL_CERT_FILE` or
    /// `SSL_CERT_DIR` name.
    Machine,
}

impl Roots {
    /// What the environment asks for.
    ///
    /// ```
    /// use bellwire_handler::Roots;
    ///
    /// let frankfurt = |name: &str| (name == "AWS_REGION").then(|| "eu-central-1".to_owned());
    /// assert_eq!(Roots::of(frankfurt), Roots::Amazon);
    /// let proxied = |name: &str| (name == "SSL_CERT_FILE").then(|| "/opt/ca.pem".to_owned());
    /// assert_eq!(Roots::of(proxied), Roots::Machine);
    /// ```
    #[must_use]
    pub fn of(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| lookup(name).is_some_and(|value| !value.is_empty());
        let is_china = lookup("AWS_REGION").is_some_and(|region| region.starts_with(CHINA));
        if is_china || NAME_OTHERS.into_iter().any(is_set) { Self::Machine } else { Self::Amazon }
    }

    /// For the connector of a client.
    ///
    /// # Panics
    ///
    /// Never: of what is asked for here, nothing can be wrong.
    #[must_use]
    pub fn tls_context(self) -> TlsContext {
        let store = match self {
            Self::Amazon => TrustStore::empty().with_pem_certificate(AMAZON_ROOTS),
            Self::Machine => TrustStore::default(),
        };
        TlsContext::builder().with_trust_store(store).build().expect("roots and nothing else")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

    use super::*;

    #[test]
    fn what_is_compiled_in_are_amazon_s_five_as_mozilla_trusts_them() {
        let text = str::from_utf8(AMAZON_ROOTS).expect("text");
        let mut ours: Vec<Vec<u8>> = Vec::new();
        for block in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
            let lines = block.split("-----END").next().expect("its text").lines();
            ours.push(STANDARD.decode(lines.collect::<String>()).expect("base64"));
        }
        let names = ["Amazon Root CA ", "Starfield Services Root Certificate Authority - G2"];
        let is_amazon_s = |der: &[u8]| {
            names.iter().any(|name| der.windows(name.len()).any(|part| part == name.as_bytes()))
        };
        let mut theirs: Vec<Vec<u8>> = TLS_SERVER_ROOT_CERTS.iter().map(|it| it.to_vec()).collect();
        theirs.retain(|der| is_amazon_s(der));
        ours.sort();
        theirs.sort();
        assert_eq!(ours.len(), 5);
        assert!(ours == theirs);
    }

    #[test]
    fn a_region_in_china_and_certificates_that_are_named_are_the_machine_s() {
        let of =
            |name: &str, value: &str| Roots::of(|asked| (asked == name).then(|| value.to_owned()));
        assert_eq!(of("AWS_REGION", "cn-north-1"), Roots::Machine);
        assert_eq!(of("AWS_REGION", "us-gov-west-1"), Roots::Amazon);
        assert_eq!(of("SSL_CERT_DIR", "/etc/ssl/certs"), Roots::Machine);
        assert_eq!(of("SSL_CERT_DIR", ""), Roots::Amazon);
    }
}
