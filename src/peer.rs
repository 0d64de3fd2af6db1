//! The other end of a connection with TLS.

/// The client of a connection with TLS. The extensions of each of its requests have it, as an `Arc`; those of requests over
/// plain text have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The certificate that the client has shown, if any. An authority that the server trusts has signed it.
    pub certificate: Option<PeerCertificate>,
}

/// What a certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject as RFC 4514 writes it, such as `CN=worker-1,O=Example`; empty if the certificate has none.
    pub subject: String,
    /// The names of hosts among its alternative names.
    pub dns_names: Vec<String>,
    /// The URIs among its alternative names, such as `spiffe://example.org/worker`.
    pub uris: Vec<String>,
}
