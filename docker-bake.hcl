# Every image of this repository, by `docker buildx bake`, here or on remote builders.
#
# Rendered by envbuilder; change the requests and render again rather than this file. It needs no envbuilder:
#
#   docker buildx bake --print                      what would be built, and with what
#   docker buildx bake --load cu117-torch2_0_1-py3_10-debian12
#   REPOSITORY=registry.example/team/envbuilder docker buildx bake --push     all of it
#   BUILDX_BUILDER=NAME docker buildx bake --push   by a builder that `docker buildx create` has made known
#   DOCKER_CONTEXT=NAME docker buildx bake --push   by another engine, one that `docker context create` has made known
#
# The wheels of a lock are for one platform, so that is written into its target; `docker buildx imagetools create` puts
# the images of several platforms under one name.
#
# What is built here has not been accepted: it is a candidate until `envbuilder accept` says otherwise.


# --- what people change: a variable of the same name in the environment ----------------------------------------------

# Where the images go, as registry.example/team/envbuilder.
variable "REPOSITORY" { default = "envbuilder" }

# The end of every tag. A tag without it says that the image has been accepted.
variable "SUFFIX" { default = "-candidate" }

# Who has the bases that `envbuilder base` makes, as registry.example/team. Without it they are the engine's own, which
# builders elsewhere do not see.
variable "BASES" { default = "" }

# Repositories for BuildKit's cache, as registry.example/team/cache; each target has a tag there.
variable "CACHE_FROM" { default = "" }
variable "CACHE_TO" { default = "" }

# Provenance and a list of the packages, beside the image in a registry. They differ each time, and so does the digest.
variable "ATTESTATIONS" { default = false }

# A CA bundle, credentials by host, the address of your own package index: build secrets, none gets into a layer.
variable "CA_BUNDLE" { default = try(compact([SSL_CERT_FILE, PIP_CERT, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE])[0], "") }
variable "NETRC" { default = "" }
variable "ENVBUILDER_INDEX_URL" { default = "" }

# From the environment, if they are there.
variable "SSL_CERT_FILE" { default = "" }
variable "PIP_CERT" { default = "" }
variable "REQUESTS_CA_BUNDLE" { default = "" }
variable "CURL_CA_BUNDLE" { default = "" }
variable "HTTP_PROXY" { default = "" }
variable "HTTPS_PROXY" { default = "" }
variable "NO_PROXY" { default = "" }
variable "http_proxy" { default = "" }
variable "https_proxy" { default = "" }
variable "no_proxy" { default = "" }


# --- groups: `docker buildx bake NAME` -------------------------------------------------------------------------------

group "default" {
  targets = [
    "cu117-torch2_0_1-py3_10-debian12",
    "cu117-torch2_0_1-py3_9-debian11",
    "cu121-torch2_4_1-py3_11-debian12",
    "cu121-torch2_4_1-py3_12-debian12",
    "cu124-torch2_6_0-py3_13-debian13",
    "cu126-torch2_7_1-py3_13-debian13",
    "cu128-torch2_10_0-py3_13-debian13",
    "cu128-torch2_10_0-py3_14-debian12",
    "cu130-torch2_14_1-py3_13-debian13",
    "cu130-torch2_14_1-py3_14-debian12",
    "cu132-torch2_15_0-py3_13-debian13",
    "cu132-torch2_15_0-py3_13-debian13-devel",
    "cu132-torch2_15_0-py3_14-debian12",
  ]
}
group "cu117" {
  targets = [
    "cu117-torch2_0_1-py3_10-debian12",
    "cu117-torch2_0_1-py3_9-debian11",
  ]
}
group "cu121" {
  targets = [
    "cu121-torch2_4_1-py3_11-debian12",
    "cu121-torch2_4_1-py3_12-debian12",
  ]
}
group "cu124" {
  targets = [
    "cu124-torch2_6_0-py3_13-debian13",
  ]
}
group "cu126" {
  targets = [
    "cu126-torch2_7_1-py3_13-debian13",
  ]
}
group "cu128" {
  targets = [
    "cu128-torch2_10_0-py3_13-debian13",
    "cu128-torch2_10_0-py3_14-debian12",
  ]
}
group "cu130" {
  targets = [
    "cu130-torch2_14_1-py3_13-debian13",
    "cu130-torch2_14_1-py3_14-debian12",
  ]
}
group "cu132" {
  targets = [
    "cu132-torch2_15_0-py3_13-debian13",
    "cu132-torch2_15_0-py3_13-debian13-devel",
    "cu132-torch2_15_0-py3_14-debian12",
  ]
}


# --- targets ---------------------------------------------------------------------------------------------------------

target "_image" {
  context = "docker"
  secret = concat(
    [for file in compact([CA_BUNDLE]) : "id=ca,src=${file}"],
    [for file in compact([NETRC]) : "id=netrc,src=${file}"],
    [for url in compact([ENVBUILDER_INDEX_URL]) : "id=index,env=ENVBUILDER_INDEX_URL"],
  )
  args = { # null: not given
    HTTP_PROXY = HTTP_PROXY != "" ? HTTP_PROXY : null
    HTTPS_PROXY = HTTPS_PROXY != "" ? HTTPS_PROXY : null
    NO_PROXY = NO_PROXY != "" ? NO_PROXY : null
    http_proxy = http_proxy != "" ? http_proxy : null
    https_proxy = https_proxy != "" ? https_proxy : null
    no_proxy = no_proxy != "" ? no_proxy : null
  }
  attest = [
    "type=provenance,${ATTESTATIONS ? "mode=max" : "disabled=true"}",
    "type=sbom,disabled=${!ATTESTATIONS}",
  ]
}

target "cu117-torch2_0_1-py3_10-debian12" {
  inherits   = ["_image"]
  dockerfile = "images/cu117-torch2.0.1-py3.10-debian12/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu117-torch2.0.1-py3.10-debian12${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu117-torch2.0.1-py3.10-debian12"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu117-torch2.0.1-py3.10-debian12,mode=max"]
}

target "cu117-torch2_0_1-py3_9-debian11" {
  inherits   = ["_image"]
  dockerfile = "images/cu117-torch2.0.1-py3.9-debian11/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu117-torch2.0.1-py3.9-debian11${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu117-torch2.0.1-py3.9-debian11"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu117-torch2.0.1-py3.9-debian11,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian11" : null }
}

target "cu121-torch2_4_1-py3_11-debian12" {
  inherits   = ["_image"]
  dockerfile = "images/cu121-torch2.4.1-py3.11-debian12/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu121-torch2.4.1-py3.11-debian12${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu121-torch2.4.1-py3.11-debian12"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu121-torch2.4.1-py3.11-debian12,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian12" : null }
}

target "cu121-torch2_4_1-py3_12-debian12" {
  inherits   = ["_image"]
  dockerfile = "images/cu121-torch2.4.1-py3.12-debian12/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu121-torch2.4.1-py3.12-debian12${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu121-torch2.4.1-py3.12-debian12"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu121-torch2.4.1-py3.12-debian12,mode=max"]
}

target "cu124-torch2_6_0-py3_13-debian13" {
  inherits   = ["_image"]
  dockerfile = "images/cu124-torch2.6.0-py3.13-debian13/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu124-torch2.6.0-py3.13-debian13${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu124-torch2.6.0-py3.13-debian13"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu124-torch2.6.0-py3.13-debian13,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian13" : null }
}

target "cu126-torch2_7_1-py3_13-debian13" {
  inherits   = ["_image"]
  dockerfile = "images/cu126-torch2.7.1-py3.13-debian13/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu126-torch2.7.1-py3.13-debian13${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu126-torch2.7.1-py3.13-debian13"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu126-torch2.7.1-py3.13-debian13,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian13" : null }
}

target "cu128-torch2_10_0-py3_13-debian13" {
  inherits   = ["_image"]
  dockerfile = "images/cu128-torch2.10.0-py3.13-debian13/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu128-torch2.10.0-py3.13-debian13${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu128-torch2.10.0-py3.13-debian13"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu128-torch2.10.0-py3.13-debian13,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian13" : null }
}

target "cu128-torch2_10_0-py3_14-debian12" {
  inherits   = ["_image"]
  dockerfile = "images/cu128-torch2.10.0-py3.14-debian12/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu128-torch2.10.0-py3.14-debian12${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu128-torch2.10.0-py3.14-debian12"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu128-torch2.10.0-py3.14-debian12,mode=max"]
}

target "cu130-torch2_14_1-py3_13-debian13" {
  inherits   = ["_image"]
  dockerfile = "images/cu130-torch2.14.1-py3.13-debian13/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu130-torch2.14.1-py3.13-debian13${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu130-torch2.14.1-py3.13-debian13"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu130-torch2.14.1-py3.13-debian13,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian13" : null }
}

target "cu130-torch2_14_1-py3_14-debian12" {
  inherits   = ["_image"]
  dockerfile = "images/cu130-torch2.14.1-py3.14-debian12/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu130-torch2.14.1-py3.14-debian12${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu130-torch2.14.1-py3.14-debian12"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu130-torch2.14.1-py3.14-debian12,mode=max"]
}

target "cu132-torch2_15_0-py3_13-debian13" {
  inherits   = ["_image"]
  dockerfile = "images/cu132-torch2.15.0-py3.13-debian13/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu132-torch2.15.0-py3.13-debian13${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu132-torch2.15.0-py3.13-debian13"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu132-torch2.15.0-py3.13-debian13,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian13" : null }
}

target "cu132-torch2_15_0-py3_13-debian13-devel" {
  inherits   = ["_image"]
  dockerfile = "images/cu132-torch2.15.0-py3.13-debian13-devel/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu132-torch2.15.0-py3.13-debian13-devel${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu132-torch2.15.0-py3.13-debian13-devel"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu132-torch2.15.0-py3.13-debian13-devel,mode=max"]
  args       = { BASE = BASES != "" ? "${BASES}/envbuilder-base:debian13" : null }
}

target "cu132-torch2_15_0-py3_14-debian12" {
  inherits   = ["_image"]
  dockerfile = "images/cu132-torch2.15.0-py3.14-debian12/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${REPOSITORY}:cu132-torch2.15.0-py3.14-debian12${SUFFIX}"]
  cache-from = [for cache in compact([CACHE_FROM]) : "type=registry,ref=${cache}:cu132-torch2.15.0-py3.14-debian12"]
  cache-to   = [for cache in compact([CACHE_TO]) : "type=registry,ref=${cache}:cu132-torch2.15.0-py3.14-debian12,mode=max"]
}
