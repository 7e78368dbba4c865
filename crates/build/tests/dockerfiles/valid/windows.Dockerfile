# escape=`
FROM mcr.example/windows
SHELL ["powershell", "-command"]
RUN Get-ChildItem `
    C:\windows `

    # inside
    -Force
COPY ["a file.txt", "C:\\dir\\"]
ENV P=C:\dir Q="a`"b"
WORKDIR C:\dir\
