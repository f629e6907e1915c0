package app

import "doorstep/sessions/postgres"

// DatabaseOptions are the settings of the way to PostgreSQL, of every command that does
// nothing without it. So what a gateway can reach, `gateway worker`, `migrate` and `outbox`
// can. Of serve they are in Options, where the URL may be empty.
type DatabaseOptions struct {
	DatabaseURL    string `required:"" secret:"DatabaseURLFile" env:"DOORSTEP_DATABASE_URL" help:"URL of PostgreSQL: postgres://…"`
	DatabaseCA     []byte `env:"DOORSTEP_DATABASE_CA" help:"PEM file, or its content, of the certificate authority that signed PostgreSQL's certificate; database-url must then say sslmode=verify-full. Of RDS: its global bundle. Empty: the system's root certificates."`
	DatabasePooled bool   `env:"DOORSTEP_DATABASE_POOLED" help:"database-url leads to PgBouncer or RDS Proxy: send no start-up parameters and prepare no statements. The role must then have the time-outs: see docs/start.md."`
	DatabaseIAM    bool   `env:"DOORSTEP_DATABASE_IAM" help:"Sign in to RDS or Aurora as the user in database-url with a token of the process's AWS credentials, a new one for each connection; needs TLS. Region and credentials are the AWS SDK's own settings."`
	DatabaseSecret string `env:"DOORSTEP_DATABASE_SECRET" help:"Name or ARN of the secret in AWS Secrets Manager whose JSON keys username and password hold for database-url, in place of its own; asked for at each new connection, so that a rotation needs no restart. Region and credentials are the AWS SDK's own settings. Empty: none."`
	// DatabaseURLFile is where the URL was read, if it was: see settings.go.
	DatabaseURLFile string
}

// Postgres is the settings as the store takes them. No I/O.
func (o DatabaseOptions) Postgres() (postgres.Options, error) {
	all := Options{
		DatabaseURL: o.DatabaseURL, DatabaseURLFile: o.DatabaseURLFile, DatabaseCA: o.DatabaseCA,
		DatabasePooled: o.DatabasePooled, DatabaseIAM: o.DatabaseIAM, DatabaseSecret: o.DatabaseSecret,
	}
	by, err := all.signIn()
	return all.postgres(by), err
}

// postgres is the way to the database, as the store takes it.
func (o Options) postgres(by signIn) postgres.Options {
	return postgres.Options{
		URL: o.DatabaseURL, URLFile: o.DatabaseURLFile, Password: by.database, Secret: by.secret,
		CA: o.DatabaseCA, Pooled: o.DatabasePooled,
	}
}
