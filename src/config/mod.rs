//! Loads the configuration and assembles the Config structs of the modules.
