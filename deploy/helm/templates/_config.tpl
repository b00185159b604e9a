{{- /*
Have a dict hold whole numbers as such, and nothing that is null: Helm reads every number as a float, and TOML tells
them apart. Lists go through a dict of their own. The dict is changed in place.
*/ -}}
{{- define "llm-gateway.plain" -}}
{{- range $key, $value := . -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $ $key -}}
{{- else if kindIs "map" $value -}}
{{- include "llm-gateway.plain" $value -}}
{{- else if kindIs "slice" $value -}}
{{- $items := list -}}
{{- range $value -}}
{{- $box := dict "item" . -}}
{{- include "llm-gateway.plain" $box -}}
{{- if hasKey $box "item" -}}{{- $items = append $items $box.item -}}{{- end -}}
{{- end -}}
{{- $_ := set $ $key $items -}}
{{- else if and (kindIs "float64" $value) (eq (toString $value | float64) (floor $value)) -}}
{{- $_ := set $ $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llm-gateway.toml" -}}
{{- include "llm-gateway.plain" . -}}
{{- toToml . | trim -}}
{{- end -}}

{{- /* The gateway's configuration. Its first engine answers requests that name no model, so the order of engines is told. */ -}}
{{- define "llm-gateway.config" -}}
{{- include "llm-gateway.checks" . -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.keys.insecureNoAuth -}}
{{- $_ := set $config "auth" (dict "insecure_no_auth" true) -}}
{{- end -}}
{{- $limits := $config.limits | default dict -}}
{{- $_ := set $config "limits" (merge $limits (dict "replicas" (include "llm-gateway.most" . | int64))) -}}
{{- if .Values.routes -}}
{{- $_ := set $config "routes" (deepCopy .Values.routes) -}}
{{- end -}}
{{- include "llm-gateway.toml" $config }}

[engines]
{{- $names := keys .Values.engines | sortAlpha -}}
{{- $first := .Values.defaultEngine | default (first $names) -}}
{{- range $name := prepend (without $names $first) $first }}
{{ include "llm-gateway.toml" (dict "engines" (dict $name (deepCopy (index $.Values.engines $name)))) | trimPrefix "[engines]\n" }}
{{- end }}
{{- end -}}
