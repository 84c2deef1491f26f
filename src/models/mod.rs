//! Architecture + config → OpGraph.
