vcl 4.1;

backend origin {
    .host = "{{host}}";
    .port = "{{port}}";
}
