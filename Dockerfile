# syntax=docker/dockerfile:1

# The web pages; what Node needs stays in this stage.
FROM node:20-bookworm-slim AS pages
WORKDIR /src/web
ENV npm_config_cache=/cache
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN --mount=type=cache,target=/cache npm ci --no-progress
COPY web .
RUN npm run build

# H3 is a C library, so the build needs a C compiler (this image has one) and the runtime a C library: the same Debian's.
FROM golang:1.26-bookworm AS build
WORKDIR /src
# The workspace joins bench to the product; the image has only the product.
ENV GOCACHE=/cache/build GOMODCACHE=/cache/modules GOWORK=off
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download
COPY . .
COPY --from=pages /src/web/dist web/dist
ARG VERSION=dev
RUN --mount=type=cache,target=/cache make build VERSION="$VERSION"

FROM debian:bookworm-slim
ARG VERSION=dev
LABEL org.opencontainers.image.title="doorstep" \
      org.opencontainers.image.description="Live-journey location gateway" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0"
# Roots for the key server and the event bus; the slim image has none, and no package manager need run for them.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/LICENSE /usr/share/doc/doorstep/copyright
COPY --from=build /src/bin/gateway /usr/local/bin/gateway

# 9090 is the metrics listener: for the inside of the network only. The queue type is valkey-go's: with its default, a ring, a
# caller that finds it full waits past its own deadline.
ENV DOORSTEP_LISTEN=:8080 \
    DOORSTEP_METRICS_LISTEN=:9090 \
    RUEIDIS_QUEUE_TYPE=flowbuffer
EXPOSE 8080 9090

# Nobody's numbers: a platform that forbids root by number (runAsNonRoot) cannot read a name.
USER 65532:65532
# Drains within 25 s of SIGTERM: give it 30 before the kill.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
