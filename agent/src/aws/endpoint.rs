//! Host name → service candidates, region, partition.

/// What a host name under AWS's domains stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Lower case, without port.
    pub host: String,
    /// Indices into the model of the services that answer at this host; empty if the model knows none.
    pub services: Vec<u16>,
    /// Region named by the host, or the fixed signing region of a global endpoint.
    pub region: Option<String>,
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: &'static str,
    /// S3: what stands in front of the service labels (bucket of a virtual-host address).
    pub bucket: Option<String>,
    /// What kind of host it is.
    pub class: HostClass,
}

/// Kinds of hosts under AWS's domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostClass {
    /// A service API: judged, signed.
    Api,
    /// A customer's or a download host under an AWS domain (load balancers, databases): never signed.
    Customer,
    /// Under an AWS domain, but nothing the model knows.
    Unknown,
}
