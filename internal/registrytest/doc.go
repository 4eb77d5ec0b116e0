// Package registrytest tries the serdes of package registry against a real schema registry, Apicurio's, which has the REST
// interface of Confluent's (`make registry`).
package registrytest
