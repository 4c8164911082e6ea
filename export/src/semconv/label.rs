//! The attributes that metrics may have: a closed list, so that none of high cardinality gets in.

macro_rules! labels {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// An attribute of a metric.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Label { $($(#[$doc])* $variant,)* }

        impl Label {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// The attribute's key.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

labels! {
    /// Method, `_OTHER` where it is not a known one.
    HttpRequestMethod = "http.request.method",
    /// `http` or `https`.
    UrlScheme = "url.scheme",
    /// Status code; an integer.
    HttpResponseStatusCode = "http.response.status_code",
    /// The path's pattern, never the path.
    HttpRoute = "http.route",
    /// How the route was found: `pattern` or `heuristic`.
    RouteSource = "wirespan.route.source",
    /// `1.1`, `2`.
    NetworkProtocolVersion = "network.protocol.version",
    /// Name of the protocol.
    NetworkProtocolName = "network.protocol.name",
    /// The server as its client calls it.
    ServerAddress = "server.address",
    /// The server's port; an integer.
    ServerPort = "server.port",
    /// `grpc`.
    RpcSystemName = "rpc.system.name",
    /// `pkg.Service/Method`, or `_OTHER`.
    RpcMethod = "rpc.method",
    /// Name of the status.
    RpcStatusCode = "rpc.status_code",
    /// `mysql`, `postgresql`, `redis`, `mariadb`.
    DbSystemName = "db.system.name",
    /// Database, schema.
    DbNamespace = "db.namespace",
    /// The command, of languages that have one command for each statement.
    DbOperationName = "db.operation.name",
    /// Operation and targets of a statement.
    DbQuerySummary = "db.query.summary",
    /// A procedure or script that was called by name.
    DbStoredProcedureName = "db.stored_procedure.name",
    /// The server's code of a failure.
    DbResponseStatusCode = "db.response.status_code",
    /// The server's address on the network.
    NetworkPeerAddress = "network.peer.address",
    /// The server's port on the network; an integer.
    NetworkPeerPort = "network.peer.port",
    /// Class of the failure.
    ErrorType = "error.type",
    /// Whose socket was observed: `client`, `server`, `wire`.
    Side = "wirespan.side",
    /// Who calls, in the service map.
    EdgeClient = "wirespan.edge.client",
    /// Who is called, in the service map.
    EdgeServer = "wirespan.edge.server",
}

impl Label {
    /// The label of a number that `label as u8` gave.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
